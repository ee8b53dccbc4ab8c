-- As docker-jitsi-meet's templates make it, shortened.
admins = {
	"focus@auth.meet.jitsi",
	"jvb@auth.meet.jitsi",
}
component_admins_as_room_owners = true
modules_enabled = {
	"roster"; "saslauth"; "tls"; "disco"; "posix"; "http_health"; "version"; "time"; "ping";
}
component_ports = { }
https_ports = { }
allow_registration = false
c2s_require_encryption = false
s2s_secure_auth = false
authentication = "internal_hashed"
storage = "internal"
log = { { levels = { min = "info" }, timestamps = "%Y-%m-%d %X", to = "console" } }
network_settings = { tcp_backlog = 511 }
data_path = "/var/lib/prosody/data"

Include "conf.d/*.cfg.lua"
