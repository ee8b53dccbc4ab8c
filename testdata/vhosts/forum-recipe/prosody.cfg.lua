-- "How I got JWT and guests to work": the guest domain takes tokens too, and lets those in who have none.
modules_enabled = { "roster", "saslauth", "disco", "ping", "version", "time", "bosh", "websocket" }
muc_mapper_domain_base = "jitmeet.example.com";
c2s_require_encryption = false

app_id = "example_app_id"
app_secret = "c2b1a0f9e8d7c6b5a4f3e2d1c0b9a8f7"

VirtualHost "jitmeet.example.com"
        authentication = "token"
        allow_empty_token = false

VirtualHost "guest.jitmeet.example.com"
        authentication = "token";
        allow_empty_token = true;
        c2s_require_encryption = false;

Component "conference.jitmeet.example.com" "muc"
    restrict_room_creation = true
    modules_enabled = { "token_verification" }
    admins = { "focus@auth.jitmeet.example.com" }

VirtualHost "auth.jitmeet.example.com"
    authentication = "internal_plain"

Component "focus.jitmeet.example.com"
    component_secret = "0f8e4c1b6a2d7935e0c4b8a1f6d2937c"
