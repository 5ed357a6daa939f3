{{- /*
Names, hosts and labels, by the same rules as in charts/flaghoist/templates/_names.tpl, whose pods, Services and service accounts
are meant. tests/mesh compares the two.
*/ -}}

{{- /* The release, or what replaces it, at most 40 characters; what is cut keeps a digest of the whole. */ -}}
{{- define "flaghoist-istio.fullname" -}}
{{- $name := .Values.fullnameOverride | default .Release.Name -}}
{{- if gt (len $name) 40 -}}
{{- $name = printf "%s-%s" ($name | trunc 33 | trimSuffix "-") ($name | sha256sum | trunc 6) -}}
{{- end -}}
{{- $name | trimSuffix "-" -}}
{{- end -}}

{{- /* The name of a service and its Service, such as `chat-send`, from (dict "root" $ "service" "send"). */ -}}
{{- define "flaghoist-istio.partName" -}}
{{- printf "%s-%s" (include "flaghoist-istio.fullname" .root) .service -}}
{{- end -}}

{{- /* The full name of its Service. */ -}}
{{- define "flaghoist-istio.host" -}}
{{- printf "%s.%s.svc.%s" (include "flaghoist-istio.partName" .) .root.Release.Namespace .root.Values.clusterDomain -}}
{{- end -}}

{{- /* How its certificate names it. */ -}}
{{- define "flaghoist-istio.principal" -}}
{{- $account := get .root.Values.serviceAccounts .service | default (include "flaghoist-istio.partName" .) -}}
{{- printf "%s/ns/%s/sa/%s" .root.Values.trustDomain .root.Release.Namespace $account -}}
{{- end -}}

{{- /* What selects the pods of the release; with a service, those of the service. */ -}}
{{- define "flaghoist-istio.podLabels" -}}
app.kubernetes.io/name: {{ .root.Values.nameOverride | default "flaghoist" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .service }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{- /* `selector` of a policy for the whole namespace, or for the pods of the release: nothing, or a selector. */ -}}
{{- define "flaghoist-istio.scope" -}}
{{- if not .Values.wholeNamespace -}}
selector:
  matchLabels:
    {{- include "flaghoist-istio.podLabels" (dict "root" .) | nindent 4 }}
{{- end -}}
{{- end -}}

{{- /* `metadata` of a resource, from (dict "root" $ "name" NAME). */ -}}
{{- define "flaghoist-istio.metadata" -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
labels:
  app.kubernetes.io/name: {{ .root.Values.nameOverride | default "flaghoist" | trunc 63 | trimSuffix "-" }}
  app.kubernetes.io/instance: {{ .root.Release.Name }}
  app.kubernetes.io/component: mesh
  app.kubernetes.io/part-of: flaghoist
  app.kubernetes.io/managed-by: {{ .root.Release.Service }}
  helm.sh/chart: {{ printf "flaghoist-istio-%s" .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- /* The `iss` of every token. */ -}}
{{- define "flaghoist-istio.issuer" -}}
{{- .Values.issuer | default (printf "http://%s:8080" (include "flaghoist-istio.host" (dict "root" . "service" "auth"))) -}}
{{- end -}}
