{{- /*
Secrets that are made once: at the first installation, and kept then, over upgrades and over an uninstallation too, since what lies
on the volumes and in the databases cannot be read without them. Tools that render without a cluster (`helm template`, Argo CD) cannot
look them up: give them existing ones.
*/ -}}

{{- /* Whether the services show one another a credential, because no sidecar vouches for them: "true" or nothing. */ -}}
{{- define "flaghoist.usesCredential" -}}
{{- if not .Values.istio.enabled }}true{{ end -}}
{{- end -}}

{{- define "flaghoist.credentialName" -}}
{{- .Values.internalCredential.existingSecret | default (printf "%s-internal" (include "flaghoist.fullname" .)) -}}
{{- end -}}

{{- define "flaghoist.keyName" -}}
{{- .values.secretKey.existingSecret | default (include "flaghoist.partName" .) -}}
{{- end -}}

{{- /*
A value that is made once, in base64, from (dict "root" $ "secret" NAME "key" KEY "bytes" WHETHER "holder" KIND/NAME). Asked twice in one
rendering it answers the same. Where the holder runs already and the Secret is gone, making another would lock it out of its store.
*/ -}}
{{- define "flaghoist.made" -}}
{{- $made := get .root.Values "_made" | default dict -}}
{{- if not (hasKey $made .secret) -}}
  {{- $there := lookup "v1" "Secret" .root.Release.Namespace .secret -}}
  {{- $value := index ($there.data | default dict) .key -}}
  {{- if not $value -}}
    {{- with .holder -}}
      {{- if lookup "apps/v1" .kind $.root.Release.Namespace .name -}}
        {{- fail (printf "the Secret %s with the key %s is gone, and %s %s cannot read its store without it: restore it from a backup, or delete the %s if its store is to be lost" $.secret $.key .kind .name .kind) -}}
      {{- end -}}
    {{- end -}}
    {{- $value = ternary (randBytes 32) (randAlphaNum 48 | b64enc) .bytes -}}
  {{- end -}}
  {{- $made = set $made .secret $value -}}
  {{- $_ := set .root.Values "_made" $made -}}
{{- end -}}
{{- get $made .secret -}}
{{- end -}}

{{- define "flaghoist.keyMade" -}}
{{- $kind := ternary "Deployment" "StatefulSet" (eq (include "flaghoist.shared" .root) "true") -}}
{{- include "flaghoist.made" (dict "root" .root "secret" (include "flaghoist.partName" .) "key" .values.secretKey.key "bytes" true "holder" (dict "kind" $kind "name" (include "flaghoist.partName" .))) -}}
{{- end -}}

{{- define "flaghoist.credentialMade" -}}
{{- include "flaghoist.made" (dict "root" . "secret" (include "flaghoist.credentialName" .) "key" .Values.internalCredential.key "bytes" false) -}}
{{- end -}}

{{- /* A digest of what a Secret holds, so that pods start anew when it changes: of a made one, or of one that is in the cluster. */ -}}
{{- define "flaghoist.secretDigest" -}}
{{- $there := lookup "v1" "Secret" .root.Release.Namespace .existing -}}
{{- index ($there.data | default dict) .key | default "" | sha256sum | trunc 32 -}}
{{- end -}}

{{- define "flaghoist.checksums" -}}
checksum/key: {{ if .values.secretKey.existingSecret -}}
{{ include "flaghoist.secretDigest" (dict "root" .root "existing" .values.secretKey.existingSecret "key" .values.secretKey.key) }}
{{- else -}}
{{ include "flaghoist.keyMade" . | sha256sum | trunc 32 }}
{{- end }}
{{- if include "flaghoist.usesCredential" .root }}
{{- $credential := .root.Values.internalCredential }}
checksum/credential: {{ if $credential.existingSecret -}}
{{ include "flaghoist.secretDigest" (dict "root" .root "existing" $credential.existingSecret "key" $credential.key) }}
{{- else -}}
{{ include "flaghoist.credentialMade" .root | sha256sum | trunc 32 }}
{{- end }}
{{- end }}
{{- if include "flaghoist.shared" .root }}
{{- $postgresql := .root.Values.store.postgresql }}
checksum/store: {{ include "flaghoist.secretDigest" (dict "root" .root "existing" $postgresql.existingSecret "key" (get $postgresql.secretKeys .name)) }}
{{- end }}
{{- with include "flaghoist.smtpSecret" . }}
checksum/smtp: {{ include "flaghoist.secretDigest" (dict "root" $.root "existing" . "key" $.values.notifier.smtp.secretKeys.password) }}
{{- end }}
{{- end -}}

{{- /* The Secret with the key of a part, unless there is one already. */ -}}
{{- define "flaghoist.keySecret" -}}
{{- if not .values.secretKey.existingSecret -}}
apiVersion: v1
kind: Secret
metadata:
  {{- include "flaghoist.metadata" (merge (dict "annotations" (dict "helm.sh/resource-policy" "keep")) .) | nindent 2 }}
type: Opaque
data:
  {{ .values.secretKey.key }}: {{ include "flaghoist.keyMade" . }}
{{- end -}}
{{- end -}}
