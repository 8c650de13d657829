#!/usr/bin/env bash
# Prints the alerting rules as the Prometheus operator takes them: deploy/kubernetes/rules.sh | kubectl apply -f -
# What is given as arguments becomes labels, for an operator that selects by them: rules.sh release=monitoring
# NAMESPACE is where the app and Redis run; default: the one of shop/kustomization.yaml. One Prometheus has the metrics of
# the whole cluster, so the rules on the app's and Redis' own metrics get the namespace too.
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
