{{- /*
Names and labels. Every name begins with the release's, and none is longer than 63 characters whatever the release is called; what is
cut keeps a digest of the whole, so that two long names stay two.
*/ -}}

{{- define "flaghoist.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- /* The release, or what replaces it. 40 characters leave room for `-send-canary` and for what Kubernetes adds to a pod. */ -}}
{{- define "flaghoist.fullname" -}}
{{- $name := .Values.fullnameOverride | default .Release.Name -}}
{{- if gt (len $name) 40 -}}
{{- $name = printf "%s-%s" ($name | trunc 33 | trimSuffix "-") ($name | sha256sum | trunc 6) -}}
{{- end -}}
{{- $name | trimSuffix "-" -}}
{{- end -}}

{{- /* The name of a part, such as `chat-send`, from (dict "root" $ "name" "send"). */ -}}
{{- define "flaghoist.partName" -}}
{{- printf "%s-%s" (include "flaghoist.fullname" .root) .name -}}
{{- end -}}

{{- define "flaghoist.serviceAccountName" -}}
{{- $account := .values.serviceAccount -}}
{{- if $account.create -}}
{{- $account.name | default (include "flaghoist.partName" .) -}}
{{- else -}}
{{- $account.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- /* What selects the pods of a part, and never changes over upgrades. */ -}}
{{- define "flaghoist.selectorLabels" -}}
app.kubernetes.io/name: {{ include "flaghoist.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .name }}
{{- end -}}

{{- define "flaghoist.labels" -}}
{{ include "flaghoist.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: flaghoist
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* The `metadata` of a resource of a part; `named` replaces its name, `annotations` are added to the common ones. */ -}}
{{- define "flaghoist.metadata" -}}
name: {{ .named | default (include "flaghoist.partName" .) }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "flaghoist.labels" . | nindent 2 }}
{{- with merge (dict) (.annotations | default dict) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* An image from (dict "root" $ "image" IMAGE): what IMAGE leaves empty is that of the installation. */ -}}
{{- define "flaghoist.image" -}}
{{- $all := .root.Values.image -}}
{{- $image := .image | default dict -}}
{{- $repository := $image.repository | default $all.repository -}}
{{- with .root.Values.global.imageRegistry -}}
{{- $repository = printf "%s/%s" (trimSuffix "/" .) $repository -}}
{{- end -}}
{{- $own := or $image.repository $image.tag $image.digest -}}
{{- $tag := $image.tag | default $all.tag | default .root.Chart.AppVersion -}}
{{- $digest := ternary $image.digest $all.digest (not (empty $own)) -}}
{{- if $digest -}}
{{- printf "%s@%s" $repository $digest -}}
{{- else -}}
{{- printf "%s:%s" $repository $tag -}}
{{- end -}}
{{- end -}}

{{- /* The image of the canary of send, as YAML: one that has a tag or a digest of its own takes neither from the stable one. */ -}}
{{- define "flaghoist.canaryImage" -}}
{{- $image := deepCopy .Values.send.image -}}
{{- $canary := .Values.send.canary.image -}}
{{- if or $canary.tag $canary.digest -}}
{{- $image = mergeOverwrite $image (dict "tag" $canary.tag "digest" $canary.digest) -}}
{{- end -}}
{{- with $canary.repository }}{{ $_ := set $image "repository" . }}{{ end -}}
{{- toYaml $image -}}
{{- end -}}

{{- /* Whether the stores are PostgreSQL: "true" or nothing. */ -}}
{{- define "flaghoist.shared" -}}
{{- if eq .Values.store.type "postgresql" }}true{{ end -}}
{{- end -}}

{{- /* The address under which people and programs reach the HTTP port of auth; the `iss` of every token. */ -}}
{{- define "flaghoist.issuer" -}}
{{- .Values.issuer.url | default (printf "http://%s-auth.%s.svc.%s:8080" (include "flaghoist.fullname" .) .Release.Namespace .Values.clusterDomain) -}}
{{- end -}}

{{- /*
Who may call whom on the internal port, as the access options in proto/ say it. The firewall is made from this, and tests/mesh
compares it with the contracts.
*/ -}}
{{- define "flaghoist.callers" -}}
auth: [login, send, receiver]
login: [send, receiver]
send: [login, receiver]
receiver: [login, send]
{{- end -}}
