{{- /*
How the tables files/methods.yaml and files/paths.yaml are read by the templates that make policies and routes.
*/ -}}

{{- define "flaghoist-istio.services" -}}
[auth, login, receiver, send]
{{- end -}}

{{- /* The ports of a service by the names that the tables use. */ -}}
{{- define "flaghoist-istio.ports" -}}
public: 9000
internal: 9001
http: 8080
jwks: 8081
{{- end -}}

{{- /* The rows of a service at a port, from (dict "root" $ "service" "send" "port" "public"): its methods, then other paths. */ -}}
{{- define "flaghoist-istio.rows" -}}
{{- $rows := list -}}
{{- $methods := .root.Files.Get "files/methods.yaml" | fromYaml -}}
{{- $paths := .root.Files.Get "files/paths.yaml" | fromYaml -}}
{{- range list (get $methods .service) (get $paths "all") (get $paths .service) -}}
{{- range (get (. | default dict) $.port | default list) -}}
{{- $rows = append $rows . -}}
{{- end -}}
{{- end -}}
{{- $rows | toYaml -}}
{{- end -}}

{{- /*
Whether calls of a class at a port have a route of their own when they come with a proof of possession (DPoP, RFC 9449), from
(dict "class" "read" "port" "public"): text if so. A proof is good once. Were a call made again that has reached a service, the service
would refuse it, for it has seen the proof; so it is only made again when it has certainly not got there.
*/ -}}
{{- define "flaghoist-istio.withProof" -}}
{{- if and (has .class (list "read" "repeatable")) (has .port (list "public" "http")) }}true{{ end -}}
{{- end -}}

{{- /* Retries and timeout of a class, from (dict "root" $ "class" "read" "proven" false); "proven" is for calls with a proof. */ -}}
{{- define "flaghoist-istio.class" -}}
{{- $class := get .root.Values.classes .class | default dict -}}
{{- if $class.timeout -}}
timeout: {{ $class.timeout }}
{{- else -}}
# No timeout. (Istio refuses to read `0s`; without the field there is none.)
{{- end }}
retries:
  {{- if has .class (list "read" "repeatable") }}
  attempts: {{ $class.attempts }}
  {{- if .proven }}
  retryOn: connect-failure,refused-stream,reset-before-request
  {{- else }}
  perTryTimeout: {{ $class.perTryTimeout }}
  # The last two let a try that takes too long be retried. Nothing of it is an answer of a service but UNAVAILABLE, by which it
  # says that trying again may help.
  retryOn: unavailable,connect-failure,refused-stream,reset-before-request,reset,gateway-error
  {{- end }}
  {{- else }}
  # Istio's default, which retries, is off.
  attempts: 0
  {{- end }}
{{- end -}}

{{- /* Where calls of a service go, from (dict "root" $ "service" "send" "port" 9000): with a canary, to two subsets. */ -}}
{{- define "flaghoist-istio.destinations" -}}
{{- $host := include "flaghoist-istio.host" . -}}
{{- $weight := int .root.Values.send.canary.weight -}}
{{- if and (eq .service "send") (gt $weight 0) -}}
- destination: { host: {{ $host }}, port: { number: {{ .port }} }, subset: stable }
  weight: {{ sub 100 $weight }}
- destination: { host: {{ $host }}, port: { number: {{ .port }} }, subset: canary }
  weight: {{ $weight }}
{{- else -}}
- destination: { host: {{ $host }}, port: { number: {{ .port }} } }
{{- end -}}
{{- end -}}
