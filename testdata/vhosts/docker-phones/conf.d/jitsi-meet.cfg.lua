admins = {
	"jigasi@auth.meet.jitsi",
	"focus@auth.meet.jitsi",
	"jvb@auth.meet.jitsi"
}
unlimited_jids = {
	"focus@auth.meet.jitsi",
	"jvb@auth.meet.jitsi"
}
plugin_paths = { "/prosody-plugins-custom", "/prosody-plugins/", "/prosody-plugins-contrib" }
recorder_prefixes = { "recorder@hidden.meet.jitsi" };
transcriber_prefixes = { "transcriber@hidden.meet.jitsi" };

VirtualHost "jigasi.meet.jitsi"
	modules_enabled = { "bosh"; "muc_password_check"; }
	authentication = "token"
	app_id = "jitsi";
	asap_key_server = "https://jaas-public-keys.jitsi.net/jitsi-components/prod-8x8"
	asap_accepted_issuers = { "jaas-components" }
	asap_accepted_audiences = { "jigasi.meet.example.com" }

VirtualHost "meet.jitsi"
	authentication = "token"
	app_id = "my_jitsi_app_id"
	app_secret = "c2b1a0f9e8d7c6b5a4f3e2d1c0b9a8f7"
	allow_empty_token = false
	enable_domain_verification = false
	modules_enabled = { "bosh"; "muc_lobby_rooms"; "muc_breakout_rooms"; }
	main_muc = "muc.meet.jitsi"
	lobby_muc = "lobby.meet.jitsi"
	muc_lobby_whitelist = { "hidden.meet.jitsi" }
	breakout_rooms_muc = "breakout.meet.jitsi"

VirtualHost "auth.meet.jitsi"
	modules_enabled = { "limits_exception"; "smacks"; }
	authentication = "internal_hashed"

VirtualHost "hidden.meet.jitsi"
	authentication = "internal_hashed"

Component "muc.meet.jitsi" "muc"
	restrict_room_creation = true
	storage = "memory"
	modules_enabled = { "muc_hide_all"; "muc_meeting_id"; "token_verification"; }
	muc_room_locking = false
	muc_room_default_public_jids = true

Component "focus.meet.jitsi" "client_proxy"
	target_address = "focus@auth.meet.jitsi"

Component "lobby.meet.jitsi" "muc"
	storage = "memory"
	restrict_room_creation = true

Component "breakout.meet.jitsi" "muc"
	storage = "memory"
	restrict_room_creation = true
	modules_enabled = { "muc_hide_all"; "muc_meeting_id"; }
