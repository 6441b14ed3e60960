{{- define "ringmq.name" -}}
{{- if contains "ringmq" .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-ringmq" .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "ringmq.selector" -}}
app.kubernetes.io/name: ringmq
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "ringmq.labels" -}}
{{ include "ringmq.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "ringmq.tokens" -}}
{{- .Values.tokensSecret | default (printf "%s-tokens" (include "ringmq.name" .)) -}}
{{- end -}}

{{- define "ringmq.config" -}}
[network]
listen = ["0.0.0.0:1883"]
{{- if .Values.tlsSecret }}

[tls]
listen-tls = ["0.0.0.0:8883"]
tls-cert = ["/etc/ringmq/tls/tls.crt"]
tls-key = ["/etc/ringmq/tls/tls.key"]
{{- end }}

[access]
{{- if .Values.usersSecret }}
password-file = "/etc/ringmq/users/passwords"
{{- else if not .Values.allowAnonymous }}
{{- fail "nobody could connect: name a Secret with users in usersSecret, or set allowAnonymous=true" }}
{{- end }}
allow-anonymous = {{ .Values.allowAnonymous }}

[store]
data-dir = "/var/lib/ringmq"

[control]
listen-http = ["0.0.0.0:9883"]
http-token-file = "/run/ringmq/tokens"
{{- with .Values.config }}

{{ . | trim }}
{{- end }}
{{- end -}}
