-- A school: teachers have an account, the learning platform makes tokens, everybody else is a guest.
component_ports = { 5348 }
component_interfaces = { "127.0.0.1" }
component_admins_as_room_owners = true
modules_enabled = { "roster", "saslauth", "disco", "ping", "version", "time", "bosh", "websocket" }

VirtualHost "meet.example.com"
  authentication = "internal_hashed"

VirtualHost "moodle.meet.example.com" {
  authentication = "token";
  app_id = "moodle";
  app_secret = "c2b1a0f9e8d7c6b5a4f3e2d1c0b9a8f7";
  asap_require_room_claim = true;
  enable_domain_verification = false;
}

VirtualHost "guest.meet.example.com"
  authentication = "anonymous"

VirtualHost "auth.meet.example.com"
  authentication = "internal_hashed"

Component "conference.meet.example.com" "muc"
  restrict_room_creation = true
  muc_room_default_members_only = true
  muc_room_default_public_jids = true
  muc_room_locking = false
  admins = { "focus@focus.meet.example.com", "admin@meet.example.com" }

Component "focus.meet.example.com"
  component_secret = "0f8e4c1b6a2d7935e0c4b8a1f6d2937c"

Component "bridge.meet.example.com"
  component_secret = "another component's own"
