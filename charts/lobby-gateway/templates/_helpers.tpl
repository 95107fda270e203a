{{/* Prefix of the names of all objects, short enough for the longest suffix. */}}
{{- define "lobby-gateway.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Selector of a component, and the only labels of its pods: with a version label, a new version of the chart alone would restart the
pods and close every client. Arguments: the root context, the component. */}}
{{- define "lobby-gateway.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ $root.Chart.Name }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* All labels of an object. Arguments: the root context, the component. */}}
{{- define "lobby-gateway.labels" -}}
{{- $root := index . 0 -}}
{{ include "lobby-gateway.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Selector of lobby pods, which the operator creates; independent of the name of the release. */}}
{{- define "lobby-gateway.lobbyPods" -}}
app.kubernetes.io/name: lobby-gateway
app.kubernetes.io/component: lobby
{{- end -}}

{{/* The reference of an image. Arguments: the root context, a section with `image`. */}}
{{- define "lobby-gateway.image" -}}
{{- $root := index . 0 -}}
{{- $image := (index . 1).image -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository ($image.tag | default $root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* The Secret with the master key of tokens, in the release's namespace. */}}
{{- define "lobby-gateway.tokenSecret" -}}
{{- .Values.tokenKey.existingSecret | default (printf "%s-token-key" (include "lobby-gateway.fullname" .)) -}}
{{- end -}}

{{/* The Secret with the key of its namespace's tokens, in each namespace that may have lobbies. */}}
{{- define "lobby-gateway.lobbyTokenSecret" -}}
{{- printf "%s-lobby-token-key" (include "lobby-gateway.fullname" .) -}}
{{- end -}}

{{/* With what the paths of the release's own Lobbies begin. */}}
{{- define "lobby-gateway.pathPrefix" -}}
{{- if .Values.watch.prefixPaths }}/{{ .Release.Namespace }}{{ end -}}
{{- end -}}

{{/* What the operator may do with Lobbies. */}}
{{- define "lobby-gateway.operatorLobbyRules" -}}
- apiGroups: [lobby-gateway.io]
  resources: [lobbies]
  verbs: [list, watch]
- apiGroups: [lobby-gateway.io]
  resources: [lobbies/status]
  verbs: [patch]
{{- end -}}

{{/* Namespaces that may have Lobbies, and so lobbies, as a JSON list. */}}
{{- define "lobby-gateway.lobbyNamespaces" -}}
{{- if .Values.watch.allNamespaces -}}
{{- append .Values.watch.lobbyNamespaces .Release.Namespace | uniq | toJson -}}
{{- else -}}
{{- with .Values.watch.lobbyNamespaces }}{{ fail (printf "watch.lobbyNamespaces: %s have no effect without watch.allNamespaces; accepted: [], or watch.allNamespaces=true" (join ", " .)) }}{{ end -}}
{{- list .Release.Namespace | toJson -}}
{{- end -}}
{{- end -}}

{{/* Pod Security "restricted", for a pod; the user of the images is not root. */}}
{{- define "lobby-gateway.podSecurity" -}}
runAsNonRoot: true
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* Pod Security "restricted", for a container. */}}
{{- define "lobby-gateway.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Scheduling of the pods of a component. Argument: its section of the values. */}}
{{- define "lobby-gateway.scheduling" -}}
{{- with .priorityClassName -}}
priorityClassName: {{ . }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "lobby-gateway.imagePullSecrets" -}}
{{- with .Values.imagePullSecrets -}}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}
