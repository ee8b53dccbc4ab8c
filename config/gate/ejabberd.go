package gate

import "encoding/json"

// YAMLLine is a line of ejabberd.yml, with a comment beside it or none.
type YAMLLine struct{ Text, Why string }

// EjabberdAccess returns the top-level lines that say who usher is to ejabberd: the access rules usher, for its JID in rooms (focus) and
// for other admins, and usher_creates.
func EjabberdAccess(focus string, admins ...string) []YAMLLine {
	lines := []YAMLLine{{"acl:", ""}, {"  usher:", ""}, {"    user:", ""}, {"      - " + QuoteYAML(focus), "usher in rooms"}}
	for _, admin := range admins {
		lines = append(lines, YAMLLine{"      - " + QuoteYAML(admin), ""})
	}
	lines = append(lines, []YAMLLine{
		{"access_rules:", ""},
		{"  usher:", ""},
		{"    allow: usher", ""},
		{"  usher_creates:", ""},
		{"    - allow:", "by its bare JID usher asks about rooms, which must not create them"},
		{"        user: " + QuoteYAML(focus), ""},
		{"        resource: usher", ""},
	}...)
	for _, admin := range admins {
		lines = append(lines, YAMLLine{"    - allow: {user: " + QuoteYAML(admin) + "}", ""})
	}
	return lines
}

// EjabberdRooms returns the module with the rooms of these MUC services, as an entry of modules. The options are those of
// mod_muc_opt.erl and mod_muc_room.erl of ejabberd 23.01; package muc sets those of default_room_options in each room as well.
func EjabberdRooms(services ...string) []YAMLLine {
	lines := []YAMLLine{{"mod_muc:", "the rooms"}, {"  hosts:", ""}}
	for _, service := range services {
		lines = append(lines, YAMLLine{"    - " + QuoteYAML(service), ""})
	}
	return append(lines, []YAMLLine{
		{"  access_admin: usher", "usher owns all rooms"},
		{"  access_create: usher_creates", "only usher creates rooms"},
		{"  access_persistent: usher", NotPersistent.Why},
		{"  access_register: none", "nobody keeps a nick for themselves"},
		{"  default_room_options:", ""},
		{"    members_only: true", MembersOnly.Why},
		{"    moderated: false", "otherwise ejabberd lets people in again by the role that they had"},
		{"    anonymous: false", PublicJIDs.Why},
		{"    persistent: false", EndsEmpty.Why},
		{"    allow_user_invites: false", "an invitation would make a member of somebody"},
		{"    allow_subscription: false", "nobody reads along from outside (MUC/Sub)"},
	}...)
}

// QuoteYAML writes a text in YAML's double quotes.
func QuoteYAML(text string) string {
	quoted, _ := json.Marshal(text) // JSON's escapes are YAML's, too, and texts have no others
	return string(quoted)
}
