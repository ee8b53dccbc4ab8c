package passhash

import "strings"

// known are passwords that anybody tries first: examples and defaults of MiroTalk SFU (.env.template, config.template.js), Jitsi's and
// usher's own documentation, and the words that lists of passwords begin with.
var known = map[string]bool{
	"admin": true, "admin123": true, "admin1234": true, "administrator": true, "guest": true, "host": true, "root": true, "test": true, "demo": true,
	"user": true, "username": true, "username2": true, "username3": true, "default": true, "login": true, "welcome": true, "letmein": true,
	"password": true, "password1": true, "password2": true, "password3": true, "password123": true, "passw0rd": true, "passwort": true, "pass": true,
	"secret": true, "changeme": true, "change-me": true, "change_me": true, "changeit": true, "replace-me": true, "example": true, "qwerty": true, "qwertz": true,
	"123456": true, "1234567": true, "12345678": true, "123456789": true, "1234567890": true, "11111111": true, "00000000": true, "abc12345": true,
	"jitsi": true, "jitsi-meet": true, "jitsimeet": true, "prosody": true, "mirotalk": true, "mirotalksfu": true, "usher": true, "meeting": true,
	"mirotalkweb_default_secret": true, "mirotalksfu_default_secret": true, "mirotalksfu_jwt_secret": true, "yourpassword": true, "your_password": true,
}

// Known reports whether a password is a default or an example that anybody knows. Case and spaces around it do not count.
func Known(password string) bool { return known[strings.ToLower(strings.TrimSpace(password))] }
