#!/usr/bin/env bash
# Prints the alerting rules in the format of the Prometheus operator: deploy/kubernetes/rules.sh | kubectl apply -f -
#
# Arguments become labels, for an operator that selects rules by labels: rules.sh release=monitoring
#
# NAMESPACE is the namespace of the app and Redis. Default: the namespace in shop/kustomization.yaml. One Prometheus has
# the metrics of the whole cluster, so the rules on the metrics of the app and Redis get the namespace too.
set -euo pipefail
here=$(dirname "$0")
namespace=${NAMESPACE:-$(sed -n 's/^namespace: //p' "$here/shop/kustomization.yaml")}
if [[ ! $namespace =~ ^[a-z0-9]([-a-z0-9]*[a-z0-9])?$ ]]; then
  echo "invalid namespace '$namespace'; example: shop" >&2
  exit 2
fi
cat <<HEAD
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: remediator
  namespace: monitoring
  labels:
    app.kubernetes.io/name: remediator
HEAD
for label in "$@"; do printf '    %s: "%s"\n' "${label%%=*}" "${label#*=}"; done
echo "spec:"
sed -e 's/^/  /' -e "s/namespace=\"shop\"/namespace=\"$namespace\"/g" \
  -e "s/{job=\"\(redis-exporter\|fastapi-app\)\"/{namespace=\"$namespace\",job=\"\1\"/g" \
  "$here/../../alerting/rules.yml"
