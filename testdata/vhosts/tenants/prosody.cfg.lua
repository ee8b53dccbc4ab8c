-- Many organisations on one server: their rooms are [tenant]room, or room on conference.TENANT.meet.example.com.
modules_enabled = { "saslauth", "disco", "version", "time", "websocket" }
muc_mapper_domain_base = "meet.example.com"
muc_mapper_domain_prefix = "conference"

local function organisation(name, secret)
  VirtualHost(name .. ".meet.example.com")
  authentication = "token"
  app_id = name
  app_secret = secret
  enable_domain_verification = true
  asap_accepted_audiences = { "meet", name }
end

organisation("acme", "c2b1a0f9e8d7c6b5a4f3e2d1c0b9a8f7")
organisation("globex", ENV_GLOBEX_SECRET or "00112233445566778899aabbccddeeff")

VirtualHost "guest.meet.example.com"
  authentication = "anonymous"

Component "conference.meet.example.com" "muc"
  modules_enabled = { "muc_domain_mapper", "token_no_wildcard" }
  restrict_room_creation = true
  muc_room_default_members_only = true
  admins = { "focus@focus.meet.example.com" }

Component "focus.meet.example.com"
  component_secret = "0f8e4c1b6a2d7935e0c4b8a1f6d2937c"
