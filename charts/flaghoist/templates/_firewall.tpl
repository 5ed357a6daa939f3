{{- /*
The firewall of a part: in come the gateway's calls on the public ports, and on the internal port those parts that the contracts name
as callers; out go the same calls seen from the other end, and what the pod needs besides. Everything else is dropped.
*/ -}}

{{- /* Pods of a part as a peer, from (dict "root" $ "name" "send"). */ -}}
{{- define "flaghoist.podsOf" -}}
- podSelector:
    matchLabels:
      {{- include "flaghoist.selectorLabels" . | nindent 6 }}
{{- end -}}

{{- /* Who may call the public ports: the gateway's pods, who is named, and the test. Without a mesh no gateway is known, and unless
peers are named it is anyone. */ -}}
{{- define "flaghoist.publicPeers" -}}
{{- $firewall := .Values.networkPolicy -}}
{{- $gateway := ternary .Values.istio.gateway dict .Values.istio.enabled | default dict -}}
{{- if or .Values.istio.enabled $firewall.gateway $firewall.publicFrom -}}
{{- if $firewall.gateway }}
{{ toYaml $firewall.gateway }}
{{- else if not $gateway.enabled }}
{{- else if eq ($gateway.kind | default "istio") "gateway-api" }}
- namespaceSelector: {}
  podSelector:
    matchLabels:
      gateway.networking.k8s.io/gateway-name: {{ $gateway.existing | default (include "flaghoist.fullname" .) | splitList "/" | last }}
{{- else }}
- namespaceSelector: {}
  podSelector:
    matchLabels:
      {{- toYaml $gateway.selector | nindent 6 }}
{{- end }}
{{- with $firewall.publicFrom }}
{{ toYaml . }}
{{- end }}
{{ include "flaghoist.podsOf" (dict "root" . "name" "test") }}
{{- end -}}
{{- end -}}

{{- define "flaghoist.istiod" -}}
- namespaceSelector:
    matchLabels: { kubernetes.io/metadata.name: {{ .Values.networkPolicy.istiod.namespace }} }
  podSelector:
    matchLabels:
      {{- toYaml .Values.networkPolicy.istiod.podLabels | nindent 6 }}
{{- end -}}

{{- define "flaghoist.firewall" -}}
{{- $values := .root.Values -}}
{{- $firewall := $values.networkPolicy -}}
{{- $callers := fromYaml (include "flaghoist.callers" .root) -}}
{{- $public := include "flaghoist.publicPeers" .root | trim -}}
{{- if $firewall.enabled -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "flaghoist.metadata" . | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- include "flaghoist.selectorLabels" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    # What people and programs call.
    - ports:
        {{- range .ports }}
        {{- if has .name (list "grpc-public" "http-oauth" "http-pages") }}
        - { protocol: TCP, port: {{ .port }} }
        {{- end }}
        {{- end }}
      {{- with $public }}
      from:
        {{- . | nindent 8 }}
        {{- if eq $.name "auth" }}
        {{- /* Login's account pages are a client of auth. */}}
        {{- include "flaghoist.podsOf" (dict "root" $.root "name" "login") | nindent 8 }}
        {{- end }}
      {{- end }}
    # What the contracts let other parts call.
    - ports:
        - { protocol: TCP, port: 9001 }
      from:
        {{- range get $callers .name }}
        {{- include "flaghoist.podsOf" (dict "root" $.root "name" .) | nindent 8 }}
        {{- end }}
    {{- if and (eq .name "auth") $values.istio.enabled }}
    # istiod fetches the keys for all sidecars.
    - ports:
        - { protocol: TCP, port: 8081 }
      from:
        {{- include "flaghoist.istiod" .root | nindent 8 }}
    {{- end }}
    {{- with $firewall.metricsFrom }}
    # The figures: the sidecar's port has them too.
    - ports:
        - { protocol: TCP, port: 9464 }
        {{- if $values.istio.enabled }}
        - { protocol: TCP, port: 15020 }
        {{- end }}
      from:
        {{- toYaml . | nindent 8 }}
    {{- end }}
    {{- with $firewall.extraIngress }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  egress:
    - ports:
        - { protocol: UDP, port: 53 }
        - { protocol: TCP, port: 53 }
      {{- with $firewall.dns.to }}
      to:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    {{- $called := list }}
    {{- range $name, $by := $callers }}
    {{- if has $.name $by }}{{ $called = append $called $name }}{{ end }}
    {{- end }}
    {{- with $called }}
    - ports:
        - { protocol: TCP, port: 9001 }
      to:
        {{- range . }}
        {{- include "flaghoist.podsOf" (dict "root" $.root "name" .) | nindent 8 }}
        {{- end }}
    {{- end }}
    {{- if eq .name "login" }}
    # The account pages ask auth as its clients do.
    - ports:
        - { protocol: TCP, port: 9000 }
      to:
        {{- include "flaghoist.podsOf" (dict "root" .root "name" "auth") | nindent 8 }}
    {{- end }}
    {{- if include "flaghoist.shared" .root }}
    - ports:
        - { protocol: TCP, port: {{ $values.store.postgresql.port }} }
      {{- with $firewall.postgresql.to }}
      to:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    {{- end }}
    {{- if and (eq .name "receiver") (eq $values.bus.type "nats") }}
    - ports:
        - { protocol: TCP, port: {{ $values.bus.nats.port }} }
      {{- with $firewall.nats.to }}
      to:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    {{- end }}
    {{- if include "flaghoist.sendsMail" . }}
    # Mail to people.
    - ports:
        - { protocol: TCP, port: {{ .values.notifier.smtp.port }} }
      {{- with $firewall.smtp.to }}
      to:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    {{- end }}
    {{- if $values.tracing.endpoint }}
    - ports:
        - { protocol: TCP, port: {{ $values.tracing.port }} }
      {{- with $firewall.tracing.to }}
      to:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    {{- end }}
    {{- if $values.istio.enabled }}
    # The sidecar's configuration and certificates.
    - ports:
        - { protocol: TCP, port: 15012 }
      to:
        {{- include "flaghoist.istiod" .root | nindent 8 }}
    {{- end }}
    {{- with $firewall.extraEgress }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
{{- end -}}
