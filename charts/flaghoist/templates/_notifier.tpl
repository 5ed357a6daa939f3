{{- /*
How messages of login to people leave: not at all, or by mail. The relay's password is a file, its name an environment variable, both
from a Secret that is there already.
*/ -}}

{{- /* Whether a part, given as the dictionary of its templates, sends mail: "true" or nothing. */ -}}
{{- define "flaghoist.sendsMail" -}}
{{- if and (eq .name "login") (eq (dig "notifier" "type" "log" .values) "smtp") }}true{{ end -}}
{{- end -}}

{{- /* The Secret by which the relay knows a part; nothing for none. */ -}}
{{- define "flaghoist.smtpSecret" -}}
{{- if include "flaghoist.sendsMail" . }}{{ .values.notifier.smtp.existingSecret }}{{ end -}}
{{- end -}}

{{- /* The environment that says so, from the value `login.notifier`. */ -}}
{{- define "flaghoist.notifier" -}}
- name: FLAGHOIST_LOGIN_NOTIFIER
  value: {{ .type }}
{{- if eq .type "smtp" }}
{{- $smtp := .smtp }}
- name: FLAGHOIST_LOGIN_SMTP_ADDRESS
  value: {{ printf "%s:%v" $smtp.host (int $smtp.port) | quote }}
- name: FLAGHOIST_LOGIN_SMTP_FROM
  value: {{ $smtp.from | quote }}
- name: FLAGHOIST_LOGIN_SMTP_TLS
  value: {{ $smtp.tls }}
{{- with $smtp.phoneDomain }}
- name: FLAGHOIST_LOGIN_SMTP_PHONE_DOMAIN
  value: {{ . | quote }}
{{- end }}
{{- with $smtp.existingSecret }}
- name: FLAGHOIST_LOGIN_SMTP_USER
  valueFrom:
    secretKeyRef:
      name: {{ . }}
      key: {{ $smtp.secretKeys.user }}
- name: FLAGHOIST_LOGIN_SMTP_PASSWORD_FILE
  value: /secrets/smtp/{{ $smtp.secretKeys.password }}
{{- end }}
{{- end }}
{{- end -}}
