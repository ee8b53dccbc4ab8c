component_admins_as_room_owners = true            -- Prosody 13: without it a component owns nothing
network_settings = { nagle = false }              -- else a second stanza waits up to 40 ms for an acknowledgement

VirtualHost "meet.example.com"                    -- people with a token; usher looks at it, so Prosody need not
  authentication = "anonymous"
VirtualHost "guest.meet.example.com"              -- guests
  authentication = "anonymous"
VirtualHost "recorder.meet.example.com"           -- recorders and gateways
  authentication = "anonymous"
VirtualHost "users.example.com"                   -- people with a password, who are hosts
  authentication = "internal_hashed"

Component "conference.meet.example.com" "muc"
  restrict_room_creation = true                   -- only admins create rooms,
  admins = { "focus@focus.meet.example.com" }     -- and that is usher
  muc_room_default_members_only = true            -- nobody enters without an affiliation, which usher gives
  muc_room_default_public_jids = true
  muc_room_locking = false
  muc_room_allow_persistent = false               -- no room outlives the people in it

Component "focus.meet.example.com"                -- usher
  component_secret = "{component.secret}"
