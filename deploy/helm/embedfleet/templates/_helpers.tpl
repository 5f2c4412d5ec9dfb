{{- define "embedfleet.fullname" -}}
{{- if contains "embedfleet" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-embedfleet" (.Release.Name | trunc 40 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{/* Labels that never change, of one component: (dict "root" $ "component" "embedding"). */}}
{{- define "embedfleet.selector" -}}
app.kubernetes.io/name: embedfleet
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "embedfleet.labels" -}}
{{ include "embedfleet.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{- define "embedfleet.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{/*
How long a pod may take to stop: it waits until no more requests come to it, workers drain, then hand back what is left,
then close their connections. Of a pod's dictionary, as below.
*/}}
{{- define "embedfleet.graceSeconds" -}}
{{ add (ceil .root.Values.config.orchestrator.drain_seconds) (default 0 .of.preStopSeconds) 15 }}
{{- end -}}

{{/* The port of the vector store, if its URL names one. */}}
{{- define "embedfleet.storePort" -}}
{{- $url := dig "vector_store" "url" "" .Values.config | default "" -}}
{{- if $url -}}
{{- regexFind ":[0-9]+$" (urlParse $url).host | trimPrefix ":" -}}
{{- end -}}
{{- end -}}

{{/* What selects this fleet's series in PromQL, without braces. */}}
{{- define "embedfleet.series" -}}
{{- .Values.keda.selector | default (printf "namespace=%q,service=%q" .Release.Namespace (printf "%s-metrics" (include "embedfleet.fullname" .))) -}}
{{- end -}}

{{/* A pod: (dict "root" $ "component" "embedding" "of" .Values.pools.embedding "args" (list …) "port" 9090). */}}
{{- define "embedfleet.pod" -}}
metadata:
  labels:
    {{- include "embedfleet.labels" . | nindent 4 }}
    {{- with .root.Values.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  annotations:
    # Settings are read at the start: a change of them replaces the pods.
    checksum/config: {{ toYaml .root.Values.config | sha256sum }}
    {{- with .root.Values.podAnnotations }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  serviceAccountName: {{ include "embedfleet.fullname" .root }}
  automountServiceAccountToken: false
  # Else Kubernetes adds variables such as EMBEDFLEET_API_PORT, which would be unknown settings.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "embedfleet.graceSeconds" . }}
  {{- include "embedfleet.podSecurity" .root | nindent 2 }}
  {{- with .root.Values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .root.Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .of.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .of.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .of.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "embedfleet.selector" . | nindent 10 }}
  containers:
    - name: embedfleet
      image: {{ include "embedfleet.image" .root }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      args: {{- toYaml .args | nindent 8 }}
      {{- include "embedfleet.containerSecurity" .root | nindent 6 }}
      ports:
        - {name: {{ .portName }}, containerPort: {{ .port }}}
      envFrom:
        - secretRef: {name: {{ .root.Values.secretName }}}
      env:
        {{- include "embedfleet.env" .root | nindent 8 }}
        {{- if and (eq .component "embedding") (dig "limits" "cpu" "" .of.resources) }}
        - name: EMBEDFLEET_MODELS__THREADS
          valueFrom:
            resourceFieldRef: {resource: limits.cpu}
        {{- end }}
        {{- with .root.Values.extraEnv }}{{ toYaml . | nindent 8 }}{{ end }}
      resources: {{- toYaml .of.resources | nindent 8 }}
      {{- with .of.preStopSeconds }}
      # Balancers learn of the end of a pod some seconds after the pod does: until then it answers requests.
      lifecycle:
        preStop:
          exec: {command: [sleep, {{ . | quote }}]}
      {{- end }}
      # A model may have to be fetched before its worker is ready; it lives from the first second.
      startupProbe:
        httpGet: {path: /healthz, port: {{ .portName }}}
        periodSeconds: 5
        failureThreshold: 60
      # Only a process whose event loop is stuck is restarted. One that waits for a service is not: that would not help.
      livenessProbe:
        httpGet: {path: /healthz, port: {{ .portName }}}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: /readyz, port: {{ .portName }}}
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: 2
      volumeMounts:
        - {name: config, mountPath: /etc/embedfleet, readOnly: true}
        - {name: work, mountPath: /var/lib/embedfleet}
        - {name: tmp, mountPath: /tmp}
  volumes:
    - name: config
      configMap: {name: {{ include "embedfleet.fullname" .root }}}
    - name: work
      {{- toYaml .root.Values.workVolume | nindent 6 }}
    - name: tmp
      {{- toYaml .root.Values.tmpVolume | nindent 6 }}
{{- end -}}

{{- define "embedfleet.podSecurity" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "embedfleet.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{/* What is written goes to the two volumes: the home directory has the caches of models. */}}
{{- define "embedfleet.env" -}}
- {name: HOME, value: /var/lib/embedfleet}
- {name: EMBEDFLEET_DATA_DIR, value: /var/lib/embedfleet/data}
{{- end -}}
