modules_enabled = { "saslauth", "disco" }

VirtualHost "meet.example.com"
    authentication = “token” – was “anonymous”
    app_id = "my_app"
