{{- define "remediator.selector" -}}
app.kubernetes.io/name: {{ .Release.Name }}
{{- end }}

{{- define "remediator.labels" -}}
{{ include "remediator.selector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "remediator.image" -}}
{{ .Values.image.repository }}{{ if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ default .Chart.AppVersion .Values.image.tag }}{{ end }}
{{- end }}

{{- define "remediator.container-security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "remediator.container" -}}
image: {{ include "remediator.image" . }}
{{- with .Values.image.pullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
securityContext:
  {{- include "remediator.container-security" . | nindent 2 }}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
{{- end }}

{{- define "remediator.as-owner" -}}
{{ include "remediator.container" . }}
volumeMounts:
  - {name: config, mountPath: /etc/remediator, readOnly: true}
  - {name: owner, mountPath: /run/secrets/owner, readOnly: true}
  - {name: tmp, mountPath: /tmp}
{{- end }}

{{- define "remediator.playbook-copier" -}}
image: {{ .Values.playbooks.sidecar.image }}
securityContext:
  {{- include "remediator.container-security" . | nindent 2 }}
resources:
  requests: {cpu: 10m, memory: 48Mi}
  limits: {memory: 128Mi}
volumeMounts:
  - {name: own-playbooks, mountPath: /etc/remediator-playbooks}
  - {name: tmp, mountPath: /tmp}
env:
  - {name: LABEL, value: {{ .Values.playbooks.label | quote }}}
  - {name: LABEL_VALUE, value: {{ .Values.playbooks.labelValue | quote }}}
  - {name: FOLDER, value: /etc/remediator-playbooks}
  - {name: NAMESPACE, value: {{ .Release.Namespace }}}
  - {name: RESOURCE, value: configmap}
  - {name: UNIQUE_FILENAMES, value: "true"}   # two ConfigMaps may have the same key
{{- end }}
