# Told to stop: refuse nothing, ask every client to come back on a new connection, and go when the last
# answer has ended. Usage: drain.sh ADMIN_PORT LINGER_SECONDS MOST_SECONDS
admin() {
  exec 3<>"/dev/tcp/127.0.0.1/$port" || return
  printf '%s %s HTTP/1.1\r\nhost: admin\r\ncontent-length: 0\r\nconnection: close\r\n\r\n' "$1" "$2" >&3
  cat <&3
  exec 3>&-
}
active() { admin GET '/stats?filter=^http.door.downstream_rq_active$' | grep -oE 'active: [0-9]+' | grep -oE '[0-9]+'; }

port=$1 linger=$2 most=$3
admin POST '/drain_listeners?graceful&skip_exit' >/dev/null
# Load balancers send new connections for a while after a pod has left the Service.
sleep "$linger"
while [ "$SECONDS" -lt "$most" ] && [ "$(active)" != 0 ]; do sleep 1; done
