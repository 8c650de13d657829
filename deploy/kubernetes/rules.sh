#!/usr/bin/env bash
# Prints the alerting rules as the Prometheus operator takes them: deploy/kubernetes/rules.sh | kubectl apply -f -
# What is given as arguments becomes labels, for an operator that selects by them: rules.sh release=monitoring
set -euo pipefail
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
sed 's/^/  /' "$(dirname "$0")/../../alerting/rules.yml"
