plugin_paths = { "/prosody-plugins-custom", "/prosody-plugins/", "/prosody-plugins-contrib" }
muc_mapper_domain_base = "meet.jitsi"
muc_mapper_domain_prefix = "muc"
recorder_prefixes = { "recorder@hidden.meet.jitsi" }
http_default_host = "meet.jitsi"

asap_accepted_issuers = { "my_web_client","my_app_client" }
asap_accepted_audiences = { "my_server1","my_server2" }

consider_bosh_secure = true;
consider_websocket_secure = true;
smacks_max_unacked_stanzas = 5;

VirtualHost "meet.jitsi"
	authentication = "token"
	app_id = "my_jitsi_app_id"
	app_secret = "c2b1a0f9e8d7c6b5a4f3e2d1c0b9a8f7"
	allow_empty_token = false
	enable_domain_verification = false
	modules_enabled = {
		"bosh";
		"features_identity";
		"websocket";
		"smacks";
		"conference_duration";
		"muc_lobby_rooms";
		"muc_breakout_rooms";
		"persistent_lobby";
	}
	main_muc = "muc.meet.jitsi"
	lobby_muc = "lobby.meet.jitsi"
	muc_lobby_whitelist = { "hidden.meet.jitsi" }
	breakout_rooms_muc = "breakout.meet.jitsi"
	c2s_require_encryption = false

VirtualHost "guest.meet.jitsi"
	authentication = "jitsi-anonymous"
	modules_enabled = { "smacks"; "persistent_lobby"; }
	main_muc = "muc.meet.jitsi"
	lobby_muc = "lobby.meet.jitsi"
	c2s_require_encryption = false

VirtualHost "auth.meet.jitsi"
	modules_enabled = { "limits_exception"; "smacks"; }
	authentication = "internal_hashed"

VirtualHost "hidden.meet.jitsi"
	modules_enabled = { "smacks"; }
	authentication = "internal_hashed"

Component "internal-muc.meet.jitsi" "muc"
	storage = "memory"
	modules_enabled = { "muc_hide_all"; "muc_filter_access"; }
	restrict_room_creation = true
	muc_filter_whitelist = "auth.meet.jitsi"
	muc_room_locking = false
	muc_room_default_public_jids = true

Component "muc.meet.jitsi" "muc"
	restrict_room_creation = true
	storage = "memory"
	modules_enabled = {
		"muc_hide_all";
		"muc_meeting_id";
		"token_verification";
		"muc_wait_for_host";
		"token_affiliation";
		"muc_domain_mapper";
		"muc_password_whitelist";
	}
	rate_limit_cache_size = 10000;
	muc_room_cache_size = 10000
	muc_room_locking = false
	muc_room_default_public_jids = true
	muc_password_whitelist = { "focus@auth.meet.jitsi" }

Component "focus.meet.jitsi" "client_proxy"
	target_address = "focus@auth.meet.jitsi"

Component "speakerstats.meet.jitsi" "speakerstats_component"
	muc_component = "muc.meet.jitsi"

Component "lobby.meet.jitsi" "muc"
	storage = "memory"
	restrict_room_creation = true
	muc_room_locking = false
	muc_room_default_public_jids = true
	modules_enabled = { "muc_hide_all"; }

Component "breakout.meet.jitsi" "muc"
	storage = "memory"
	restrict_room_creation = true
	muc_room_locking = false
	muc_room_default_public_jids = true
	modules_enabled = { "muc_hide_all"; "muc_meeting_id"; }
