# docker buildx bake: the images for amd64 and arm64, with SBOM and provenance. Set REGISTRY to push: --push
variable "REGISTRY" { default = "" }
variable "VERSION" { default = "0.1.0" }
variable "REVISION" { default = "" }
variable "APP_VERSION" { default = "1.0" }

group "default" { targets = ["remediator"] }
group "demo" { targets = ["remediator", "app"] }

target "common" {
  platforms = ["linux/amd64", "linux/arm64"]
  attest    = ["type=sbom", "type=provenance,mode=max"]
}

target "remediator" {
  inherits = ["common"]
  context  = "."
  args     = { VERSION = VERSION, REVISION = REVISION }
  tags     = ["${REGISTRY}remediator:${VERSION}"]
}

target "app" {
  inherits   = ["common"]
  context    = "."
  dockerfile = "app/Dockerfile"
  tags       = ["${REGISTRY}remediator-app:${APP_VERSION}"]
}
