{{- /*
What runs a part: a StatefulSet of one pod with a volume on SQLite, a Deployment of any number of pods on PostgreSQL; and what the
part is known by.
*/ -}}

{{- define "flaghoist.serviceAccount" -}}
{{- if .values.serviceAccount.create -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "flaghoist.metadata" (merge (dict "named" (include "flaghoist.serviceAccountName" .) "annotations" .values.serviceAccount.annotations) .) | nindent 2 }}
# Nothing here asks the cluster for anything.
automountServiceAccountToken: false
{{- end -}}
{{- end -}}

{{- /* Never of another type than ClusterIP: it has the internal port, which no one outside may reach. */ -}}
{{- define "flaghoist.service" -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "flaghoist.metadata" (merge (dict "annotations" .values.service.annotations) .) | nindent 2 }}
spec:
  type: ClusterIP
  selector:
    {{- include "flaghoist.selectorLabels" . | nindent 4 }}
  ports:
    {{- range .ports }}
    - name: {{ .name }}
      port: {{ .port }}
      targetPort: {{ .name }}
      appProtocol: {{ hasPrefix "grpc-" .name | ternary "grpc" "http" }}
    {{- end }}
{{- end -}}

{{- define "flaghoist.workload" -}}
{{- $service := merge (dict "track" "stable" "image" .values.image) . -}}
{{- $labels := dict "flaghoist.dev/track" "stable" -}}
{{- if include "flaghoist.shared" .root -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "flaghoist.metadata" . | nindent 2 }}
spec:
  {{- if not .values.autoscaling.enabled }}
  replicas: {{ .values.replicaCount }}
  {{- end }}
  {{- include "flaghoist.rollout" $service | nindent 2 }}
{{- else -}}
apiVersion: apps/v1
kind: StatefulSet
metadata:
  {{- include "flaghoist.metadata" . | nindent 2 }}
spec:
  # One file has one writer.
  replicas: 1
  serviceName: {{ include "flaghoist.partName" . }}
  minReadySeconds: {{ .root.Values.minReadySeconds }}
  revisionHistoryLimit: 5
  selector:
    matchLabels:
      {{- include "flaghoist.selectorLabels" . | nindent 6 }}
      flaghoist.dev/track: stable
  {{- if and .values.persistence.enabled (not .values.persistence.existingClaim) }}
  # What was said outlives the installation; `kubectl delete pvc` is a decision of its own.
  persistentVolumeClaimRetentionPolicy: { whenDeleted: Retain, whenScaled: Retain }
  volumeClaimTemplates:
    - metadata:
        name: data
        labels:
          {{- include "flaghoist.selectorLabels" . | nindent 10 }}
        {{- with .values.persistence.annotations }}
        annotations:
          {{- toYaml . | nindent 10 }}
        {{- end }}
      spec:
        accessModes:
          {{- toYaml .values.persistence.accessModes | nindent 10 }}
        {{- with .values.persistence.storageClass }}
        storageClassName: {{ eq . "-" | ternary "" . | quote }}
        {{- end }}
        resources:
          requests:
            storage: {{ .values.persistence.size }}
  {{- end }}
  template:
    {{- include "flaghoist.podTemplate" $service | nindent 4 }}
{{- end }}
{{- end -}}

{{- /* What every Deployment here has: pods are replaced one by one, each given time to settle. */ -}}
{{- define "flaghoist.rollout" -}}
minReadySeconds: {{ .root.Values.minReadySeconds }}
revisionHistoryLimit: 5
strategy:
  type: RollingUpdate
  rollingUpdate: { maxSurge: 1, maxUnavailable: 0 }
selector:
  matchLabels:
    {{- include "flaghoist.selectorLabels" . | nindent 4 }}
    flaghoist.dev/track: {{ .track }}
template:
  {{- include "flaghoist.podTemplate" . | nindent 2 }}
{{- end -}}

{{- /* A second Deployment of another image beside the first; what share of the calls it gets, the mesh decides. */ -}}
{{- define "flaghoist.canary" -}}
{{- $canary := .values.canary -}}
{{- if gt (int $canary.weight) 0 -}}
{{- $image := include "flaghoist.canaryImage" .root | fromYaml -}}
{{- $named := printf "%s-canary" (include "flaghoist.partName" .) -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "flaghoist.metadata" (merge (dict "named" $named) .) | nindent 2 }}
spec:
  replicas: {{ $canary.replicaCount }}
  {{- include "flaghoist.rollout" (merge (dict "track" "canary" "image" $image) .) | nindent 2 }}
{{- end -}}
{{- end -}}

{{- define "flaghoist.autoscaler" -}}
{{- $scale := .values.autoscaling -}}
{{- if $scale.enabled -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  {{- include "flaghoist.metadata" . | nindent 2 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ include "flaghoist.partName" . }}
  minReplicas: {{ $scale.minReplicas }}
  maxReplicas: {{ $scale.maxReplicas }}
  metrics:
    {{- with $scale.targetCPUUtilizationPercentage }}
    # Of the program alone; the sidecar has figures of its own.
    - type: ContainerResource
      containerResource:
        name: cpu
        container: {{ $.name }}
        target: { type: Utilization, averageUtilization: {{ . }} }
    {{- end }}
    {{- with $scale.targetMemoryUtilizationPercentage }}
    - type: ContainerResource
      containerResource:
        name: memory
        container: {{ $.name }}
        target: { type: Utilization, averageUtilization: {{ . }} }
    {{- end }}
    {{- with $scale.metrics }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $scale.behavior }}
  behavior:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
{{- end -}}

{{- define "flaghoist.disruptionBudget" -}}
{{- if .values.podDisruptionBudget.enabled -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "flaghoist.metadata" . | nindent 2 }}
spec:
  maxUnavailable: {{ .values.podDisruptionBudget.maxUnavailable }}
  # A pod that is not ready anyway never holds up a node's drain.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "flaghoist.selectorLabels" . | nindent 6 }}
      flaghoist.dev/track: stable
{{- end -}}
{{- end -}}
