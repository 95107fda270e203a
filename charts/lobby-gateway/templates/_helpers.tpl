{{/* The name of the chart's own objects, in their names and in their label. */}}
{{- define "lobby-gateway.name" -}}
{{- .Values.nameOverride | default .Chart.Name -}}
{{- end -}}

{{/* Prefix of the names of all objects, short enough for the longest suffix. */}}
{{- define "lobby-gateway.fullname" -}}
{{- $name := include "lobby-gateway.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Prefix of the names of cluster-wide objects: they have no namespace, so it is in their names. */}}
{{- define "lobby-gateway.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "lobby-gateway.fullname" .) -}}
{{- end -}}

{{/* Selector of a component. Arguments: the root context, the component. */}}
{{- define "lobby-gateway.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "lobby-gateway.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* All labels of a component's pods. No version: a new version of the chart alone would restart the pods and close every client.
Arguments: the root context, the component, optionally further labels. */}}
{{- define "lobby-gateway.podLabels" -}}
{{- $root := index . 0 -}}
{{- $ours := include "lobby-gateway.selector" . | fromYaml -}}
{{- $further := dict -}}
{{- if gt (len .) 2 }}{{ $further = index . 2 }}{{ end -}}
{{- merge $ours $further $root.Values.commonLabels (dict "app.kubernetes.io/part-of" $root.Chart.Name) | toYaml -}}
{{- end -}}

{{/* All labels of an object. Arguments: as for podLabels. */}}
{{- define "lobby-gateway.labels" -}}
{{- $root := index . 0 -}}
{{- $ours := include "lobby-gateway.podLabels" . | fromYaml -}}
{{- $_ := set $ours "app.kubernetes.io/version" $root.Chart.AppVersion -}}
{{- $_ := set $ours "app.kubernetes.io/managed-by" $root.Release.Service -}}
{{- $_ := set $ours "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_") -}}
{{- toYaml $ours -}}
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
{{- $registry := $root.Values.global.imageRegistry | default $image.registry -}}
{{- with $registry }}{{ . }}/{{ end }}{{ $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default $root.Chart.AppVersion }}{{ end -}}
{{- end -}}

{{/* The Secret with the master key of tokens, in the release's namespace. */}}
{{- define "lobby-gateway.tokenSecret" -}}
{{- .Values.tokenKey.existingSecret | default (printf "%s-token-key" (include "lobby-gateway.fullname" .)) -}}
{{- end -}}

{{/* The Secret with the key of its namespace's tokens, in each namespace that may have lobbies. */}}
{{- define "lobby-gateway.lobbyTokenSecret" -}}
{{- printf "%s-lobby-token-key" (include "lobby-gateway.fullname" .) -}}
{{- end -}}

{{/* The Service under which the API server asks the operators, and the Secret with its certificate. */}}
{{- define "lobby-gateway.admission" -}}
{{- printf "%s-admission" (include "lobby-gateway.fullname" .) -}}
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
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The variables of a container, with `extraEnv`. Arguments: the root context, the component. */}}
{{- define "lobby-gateway.env" -}}
{{- $root := index . 0 -}}
- name: LOBBY_LOG_LEVEL
  value: {{ $root.Values.logLevel }}
{{- range (index $root.Values (index . 1)).extraEnv }}
{{- if eq .name "LOBBY_LOG_LEVEL" }}{{ fail (printf "%s.extraEnv: LOBBY_LOG_LEVEL is taken; accepted: other names, and the value logLevel" (index $ 1)) }}{{ end }}
- {{ toYaml . | nindent 2 | trim }}
{{- end }}
{{- end -}}

{{/* The volumes of a pod that mounts the master key, with `extraVolumes`. Arguments: the root context, the component. */}}
{{- define "lobby-gateway.volumes" -}}
- name: token-key
  secret:
    secretName: {{ include "lobby-gateway.tokenSecret" (index . 0) }}
{{- if and (eq (index . 1) "operator") (index . 0).Values.admission.enabled }}
- name: admission
  emptyDir: {medium: Memory, sizeLimit: 1Mi}
{{- end }}
{{- range (index (index . 0).Values (index . 1)).extraVolumes }}
{{- if has .name (eq (index $ 1) "operator" | ternary (list "token-key" "admission") (list "token-key")) }}{{ fail (printf "%s.extraVolumes: %s is taken; accepted: other names" (index $ 1) .name) }}{{ end }}
- {{ toYaml . | nindent 2 | trim }}
{{- end }}
{{- end -}}

{{/* The mounts of a container that reads the master key, with `extraVolumeMounts`. Arguments: the root context, the component. */}}
{{- define "lobby-gateway.volumeMounts" -}}
- name: token-key
  mountPath: /etc/lobby/token
  readOnly: true
{{- if and (eq (index . 1) "operator") (index . 0).Values.admission.enabled }}
- name: admission
  mountPath: /tmp
{{- end }}
{{- with (index (index . 0).Values (index . 1)).extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Labels of what the operator creates for Lobbies, besides its own, as a JSON object. */}}
{{- define "lobby-gateway.lobbyLabels" -}}
{{- merge (dict "app.kubernetes.io/part-of" .Chart.Name "app.kubernetes.io/instance" .Release.Name) .Values.commonLabels | toJson -}}
{{- end -}}

{{/* Defaults of the pods of lobbies, as a JSON object: the fields of `spec.template`, and volumes. Kubernetes would replace $(NAME) in an
argument. */}}
{{- define "lobby-gateway.lobbyDefaults" -}}
{{- $lobby := .Values.lobby -}}
{{- $given := dict "resources" $lobby.resources -}}
{{- range $field, $value := dict "labels" $lobby.podLabels "annotations" $lobby.podAnnotations "nodeSelector" $lobby.nodeSelector
  "tolerations" $lobby.tolerations "affinity" $lobby.affinity "priorityClassName" $lobby.priorityClassName
  "topologySpreadConstraints" $lobby.topologySpreadConstraints "env" $lobby.extraEnv "volumes" $lobby.extraVolumes
  "volumeMounts" $lobby.extraVolumeMounts }}
{{- if $value }}{{ $_ := set $given $field $value }}{{ end -}}
{{- end -}}
{{- toJson $given | replace "$(" "$$(" -}}
{{- end -}}

{{/* Where clients reach the greeters, without a path: the first host of the Ingress or HTTPRoute that is no wildcard, or else the Service. */}}
{{- define "lobby-gateway.clientsUrl" -}}
{{- $ingress := .Values.ingress.enabled | ternary (include "lobby-gateway.firstHost" .Values.ingress.hosts) "" }}
{{- $route := .Values.httpRoute.enabled | ternary (include "lobby-gateway.firstHost" .Values.httpRoute.hostnames) "" }}
{{- $service := printf "%s-greeter.%s.svc" (include "lobby-gateway.fullname" .) .Release.Namespace }}
{{- if .Values.greeter.clientsUrl }}
{{- .Values.greeter.clientsUrl }}
{{- else if $ingress }}
{{- ternary "wss" "ws" (not (empty .Values.ingress.tls)) }}://{{ $ingress }}
{{- else if $route }}
{{- "ws" }}://{{ $route }}
{{- else }}
{{- "ws" }}://{{ $service }}{{ if ne (int .Values.greeter.service.port) 80 }}:{{ .Values.greeter.service.port }}{{ end }}
{{- end }}
{{- end }}

{{/* The first host that clients can connect to; empty: there is none. Argument: hosts, which may be wildcards such as *.example.com. */}}
{{- define "lobby-gateway.firstHost" -}}
{{- range . }}{{ if not (contains "*" .) }}{{ . }}{{ break }}{{ end }}{{ end -}}
{{- end -}}
