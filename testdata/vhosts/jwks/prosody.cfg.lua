-- Keycloak signs the tokens; its realm's keys are fetched.
modules_enabled = { "saslauth", "disco", "version", "time", "websocket" }

VirtualHost "meet.example.com"
  authentication = "token"
  app_id = "jitsi-meet"
  cache_keys_url = "https://login.example.com/realms/school/protocol/openid-connect/certs"
  asap_accepted_issuers = { "https://login.example.com/realms/school" }
  asap_accepted_audiences = { "account" }
  asap_require_room_claim = false
  enable_domain_verification = false

Component "conference.meet.example.com" "muc"
  restrict_room_creation = true
  muc_room_default_members_only = true
  admins = { "focus@focus.meet.example.com" }

Component "focus.meet.example.com"
  component_secret = "0f8e4c1b6a2d7935e0c4b8a1f6d2937c"
