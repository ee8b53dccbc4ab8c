-- RS256 with a key server, as 8x8's own installation has it.
modules_enabled = { "saslauth", "disco", "version", "time", "websocket" }
asap_key_server = "https://keys.example.com/asap"
asap_accepted_issuers = { "jitsi", "chat" }
asap_accepted_audiences = { "jitsi" }

VirtualHost "meet.example.com"
  authentication = "token"
  app_id = "jitsi"
  app_secret = "left over from before"
  signature_algorithm = "RS256"
  allow_empty_token = true
  asap_require_room_claim = false

Component "conference.meet.example.com" "muc"
  restrict_room_creation = true
  admins = { "focus@auth.meet.example.com" }

VirtualHost "auth.meet.example.com"
  authentication = "internal_hashed"

Component "focus.meet.example.com"
  component_secret = FileLine("component.secret")
