VirtualHost "meet.example.com"
  authentication = "token"
  app_id = "my_app"
  app_secret = "c2b1a0f9e8d7c6b5a4f3e2d1c0b9a8f7"
  allow_empty_token = "perhaps"

VirtualHost "users.example.com"
  authentication = "anonymous"

VirtualHost "keys.example.com"
  authentication = "token"
  app_id = "keys"
  asap_key_server = "http://keys.example.com/"

VirtualHost "short.example.com"
  authentication = "token"
  app_id = "short"
  app_secret = "changeme"

VirtualHost "nobody.example.com"
  authentication = "token"

Component "conference.meet.example.com" "muc"

Component "focus.meet.example.com"
  component_secret = ""
