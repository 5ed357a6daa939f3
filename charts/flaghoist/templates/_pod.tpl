{{- /*
The pod of a part: one container with one program, restricted as far as a pod can be, and everything it is told. What the parts have
in common is here; what one has for itself is in its own file, as `calls` (whose internal port it calls) and `settings`.
*/ -}}

{{- define "flaghoist.env" -}}
{{- $prefix := printf "FLAGHOIST_%s" (upper .name) -}}
{{- $values := .root.Values -}}
- name: {{ $prefix }}_INTERNAL_ADDR
  value: 0.0.0.0:9001
- name: {{ $prefix }}_ISSUER
  value: {{ include "flaghoist.issuer" .root | quote }}
- name: {{ $prefix }}_LOG_FORMAT
  value: {{ $values.log.format }}
- name: {{ $prefix }}_GRACE
  value: {{ printf "%vs" $values.drainSeconds | quote }}
- name: {{ $prefix }}_TRUSTED_HOPS
  value: {{ ternary $values.trustedHops (ternary 1 0 $values.istio.enabled) (not (kindIs "invalid" $values.trustedHops)) | int | quote }}
- name: {{ $prefix }}_SECRET_FILE
  value: /secrets/key/{{ .values.secretKey.key }}
{{- if include "flaghoist.usesCredential" .root }}
- name: {{ $prefix }}_INTERNAL_CREDENTIAL_FILE
  value: /secrets/internal/{{ $values.internalCredential.key }}
{{- end }}
{{- if include "flaghoist.shared" .root }}
{{- $postgresql := $values.store.postgresql }}
- name: {{ $prefix }}_STORE
  value: {{ printf "postgres://%s@%s:%v/%s%s" .values.database.user $postgresql.host (int $postgresql.port) .values.database.name (empty $postgresql.parameters | ternary "" (printf "?%s" $postgresql.parameters)) | quote }}
- name: {{ $prefix }}_STORE_CONNECTIONS
  value: {{ .values.database.connections | int | quote }}
- name: PGPASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ $postgresql.existingSecret }}
      key: {{ get $postgresql.secretKeys .name }}
{{- else }}
- name: {{ $prefix }}_DATA
  value: /data
{{- end }}
{{- range .calls }}
- name: {{ printf "%s_%s_ADDR" $prefix (upper .) }}
  value: http://{{ include "flaghoist.partName" (dict "root" $.root "name" .) }}:9001
{{- end }}
{{- if eq .name "login" }}
- name: {{ $prefix }}_AUTH_PUBLIC_ADDR
  value: http://{{ include "flaghoist.partName" (dict "root" .root "name" "auth") }}:9000
{{- end }}
{{- range $name, $value := .settings }}
{{- if not (kindIs "invalid" $value) }}
- name: {{ $prefix }}_{{ $name }}
  value: {{ $value | toString | quote }}
{{- end }}
{{- end }}
{{- if eq .name "login" }}
{{- include "flaghoist.notifier" .values.notifier | nindent 0 }}
{{- end }}
{{- if and (eq .name "receiver") (eq $values.bus.type "nats") }}
- name: FLAGHOIST_RECEIVER_BUS
  {{- if $values.bus.nats.existingSecret }}
  valueFrom:
    secretKeyRef:
      name: {{ $values.bus.nats.existingSecret }}
      key: {{ $values.bus.nats.secretKey }}
  {{- else }}
  value: {{ $values.bus.nats.url | quote }}
  {{- end }}
{{- end }}
{{- with $values.log.filter }}
- name: RUST_LOG
  value: {{ . | quote }}
{{- end }}
{{- with $values.tracing.endpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- range $name, $value := .values.settings }}
- name: {{ $prefix }}_{{ $name }}
  value: {{ kindIs "float64" $value | ternary (printf "%.0f" ($value | float64)) ($value | toString) | quote }}
{{- end }}
{{- with $values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- with .values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "flaghoist.podAnnotations" -}}
{{- $own := fromYaml (include "flaghoist.checksums" .) -}}
{{- $_ := set $own "kubectl.kubernetes.io/default-container" .name -}}
{{- if .root.Values.metrics.annotations -}}
{{- $_ := set $own "prometheus.io/scrape" "true" -}}
{{- $_ := set $own "prometheus.io/port" "9464" -}}
{{- $_ := set $own "prometheus.io/path" "/metrics" -}}
{{- end -}}
{{- if .root.Values.istio.enabled -}}
{{- $_ := set $own "sidecar.istio.io/nativeSidecar" "true" -}}
{{- end -}}
{{- toYaml (mergeOverwrite $own (deepCopy .root.Values.commonAnnotations) (deepCopy .root.Values.podAnnotations) (deepCopy .values.podAnnotations)) -}}
{{- end -}}

{{- define "flaghoist.podLabels" -}}
{{- $labels := fromYaml (include "flaghoist.labels" .) -}}
{{- $_ := unset $labels "helm.sh/chart" -}}
{{- $_ := set $labels "flaghoist.dev/track" .track -}}
{{- if .root.Values.istio.enabled -}}
{{- $_ := set $labels "sidecar.istio.io/inject" "true" -}}
{{- $_ := set $labels "service.istio.io/canonical-name" (include "flaghoist.partName" .) -}}
{{- $_ := set $labels "service.istio.io/canonical-revision" .track -}}
{{- with .root.Values.sidecar.revision }}{{ $_ := set $labels "istio.io/rev" . }}{{ end -}}
{{- end -}}
{{- /* What is added never replaces what selects. */ -}}
{{- toYaml (merge $labels (deepCopy .values.podLabels) (deepCopy .root.Values.podLabels)) -}}
{{- end -}}

{{- define "flaghoist.probe" -}}
{{- $probe := .probe -}}
{{- if $probe.enabled }}
{{ .kind }}:
  {{- if eq .kind "livenessProbe" }}
  httpGet: { path: /livez, port: http-metrics }
  {{- else }}
  grpc: { port: 9000 }
  {{- end }}
  {{- toYaml (omit $probe "enabled") | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "flaghoist.podTemplate" -}}
{{- $values := .root.Values -}}
metadata:
  labels:
    {{- include "flaghoist.podLabels" . | nindent 4 }}
  annotations:
    {{- include "flaghoist.podAnnotations" . | nindent 4 }}
spec:
  serviceAccountName: {{ include "flaghoist.serviceAccountName" . }}
  automountServiceAccountToken: false
  # Its variables would be taken for settings, and there is DNS.
  enableServiceLinks: false
  {{- with concat (.root.Values.global.imagePullSecrets | default list) $values.imagePullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ kindIs "map" . | ternary (get (kindIs "map" . | ternary . dict) "name") . }}
    {{- end }}
  {{- end }}
  # The pause before the end, the drain, and what it takes to close.
  terminationGracePeriodSeconds: {{ add $values.preStopSleepSeconds $values.drainSeconds 10 }}
  securityContext:
    {{- toYaml $values.podSecurityContext | nindent 4 }}
  {{- with .values.priorityClassName | default $values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $values.topologySpread }}
  topologySpreadConstraints:
    {{- range . }}
    - topologyKey: {{ .topologyKey }}
      maxSkew: {{ .maxSkew }}
      whenUnsatisfiable: {{ .whenUnsatisfiable }}
      labelSelector:
        matchLabels:
          {{- include "flaghoist.selectorLabels" $ | nindent 10 }}
    {{- end }}
  {{- end }}
  {{- with .values.nodeSelector | default $values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .values.tolerations | default $values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .values.affinity | default $values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ .name }}
      image: {{ include "flaghoist.image" (dict "root" .root "image" .image) | quote }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      args: [service, {{ .name }}]
      env:
        {{- include "flaghoist.env" . | nindent 8 }}
      {{- with .values.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        {{- range .ports }}
        - name: {{ .name }}
          containerPort: {{ .port }}
        {{- end }}
      {{- include "flaghoist.probe" (dict "kind" "startupProbe" "probe" $values.startupProbe) | nindent 6 }}
      {{- include "flaghoist.probe" (dict "kind" "readinessProbe" "probe" $values.readinessProbe) | nindent 6 }}
      {{- include "flaghoist.probe" (dict "kind" "livenessProbe" "probe" $values.livenessProbe) | nindent 6 }}
      # Nothing new is sent here before the program is told to stop.
      lifecycle:
        preStop:
          sleep: { seconds: {{ $values.preStopSleepSeconds }} }
      resources:
        {{- toYaml .values.resources | nindent 8 }}
      securityContext:
        {{- toYaml $values.securityContext | nindent 8 }}
      volumeMounts:
        - { name: key, mountPath: /secrets/key, readOnly: true }
        {{- if include "flaghoist.usesCredential" .root }}
        - { name: internal, mountPath: /secrets/internal, readOnly: true }
        {{- end }}
        {{- if include "flaghoist.smtpSecret" . }}
        - { name: smtp, mountPath: /secrets/smtp, readOnly: true }
        {{- end }}
        - { name: tmp, mountPath: /tmp }
        {{- if not (include "flaghoist.shared" .root) }}
        - { name: data, mountPath: /data }
        {{- end }}
        {{- with concat $values.extraVolumeMounts .values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: key
      secret:
        secretName: {{ include "flaghoist.keyName" . }}
        defaultMode: 0440
        items: [{ key: {{ .values.secretKey.key }}, path: {{ .values.secretKey.key }} }]
    {{- if include "flaghoist.usesCredential" .root }}
    - name: internal
      secret:
        secretName: {{ include "flaghoist.credentialName" .root }}
        defaultMode: 0440
        items: [{ key: {{ $values.internalCredential.key }}, path: {{ $values.internalCredential.key }} }]
    {{- end }}
    {{- with include "flaghoist.smtpSecret" . }}
    {{- $key := $.values.notifier.smtp.secretKeys.password }}
    - name: smtp
      secret:
        secretName: {{ . }}
        defaultMode: 0440
        items: [{ key: {{ $key }}, path: {{ $key }} }]
    {{- end }}
    - name: tmp
      emptyDir: { sizeLimit: 64Mi }
    {{- if and (not (include "flaghoist.shared" .root)) (or (not .values.persistence.enabled) .values.persistence.existingClaim) }}
    - name: data
      {{- if .values.persistence.enabled }}
      persistentVolumeClaim: { claimName: {{ .values.persistence.existingClaim }} }
      {{- else }}
      emptyDir: {}
      {{- end }}
    {{- end }}
    {{- with concat $values.extraVolumes .values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
