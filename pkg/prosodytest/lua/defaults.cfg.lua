-- The defaults. Prosody reads them before the test's own configuration, which overrides them.
modules_enabled = { "roster", "saslauth", "disco", "ping", "version" }
modules_disabled = { "s2s" }
authentication = "internal_hashed"
storage = "internal"

-- No connection leaves the machine, so no test needs a certificate.
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
consider_websocket_secure = true
consider_bosh_secure = true
