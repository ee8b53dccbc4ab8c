-- Prosody's own configuration, as Debian installs it, shortened.
admins = { }
modules_enabled = {
	"roster"; "saslauth"; "tls"; "disco"; "ping"; "version"; "time"; "posix";
}
allow_registration = false
c2s_require_encryption = false
authentication = "internal_hashed"
log = {
	info = "/var/log/prosody/prosody.log";
	error = "/var/log/prosody/prosody.err";
}
certificates = "certs"

Include "conf.d/*.cfg.lua"
