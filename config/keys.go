package config

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
)

// raw is the table of keys, and what viper decodes into: each field is a key as the operator types it, with its
// default. What a key means is said in [Config] and in usher.example.yaml.
type raw struct {
	Sources struct {
		Prosody []string `mapstructure:"prosody"`
		Docker  string   `mapstructure:"docker"`
		Meet    []string `mapstructure:"meet"`
	} `mapstructure:"sources"`
	Prosody struct {
		Files []string `mapstructure:"files"`
	} `mapstructure:"prosody"`
	XMPP struct {
		Server           string `mapstructure:"server" default:"127.0.0.1:5347"`
		Domain           string `mapstructure:"domain"`
		Secret           string `mapstructure:"secret"`
		SecretFile       string `mapstructure:"secret_file"`
		AllowShortSecret bool   `mapstructure:"allow_short_secret"`
	} `mapstructure:"xmpp"`
	Rooms struct {
		Services        []string      `mapstructure:"services"`
		Breakout        string        `mapstructure:"breakout"`
		Lobby           string        `mapstructure:"lobby"`
		WaitForHost     string        `mapstructure:"wait_for_host" default:"guests"`
		GuestRooms      []string      `mapstructure:"guest_rooms"`
		HostAffiliation string        `mapstructure:"host_affiliation" default:"owner"`
		Enforcement     string        `mapstructure:"enforcement" default:"members-only"`
		GuardInterval   time.Duration `mapstructure:"guard_interval" default:"5s"`
		WaitHold        time.Duration `mapstructure:"wait_hold" default:"10s"`
		WaitHoldJitsi   time.Duration `mapstructure:"wait_hold_jitsi" default:"60s"`
	} `mapstructure:"rooms"`
	Lobby struct {
		Autostart string   `mapstructure:"autostart" default:"never"`
		Bypass    []string `mapstructure:"bypass" default:"owner,member"`
	} `mapstructure:"lobby"`
	Jicofo struct {
		JID          string `mapstructure:"jid"`
		ForwardToken bool   `mapstructure:"forward_token"`
		EnforceRoles bool   `mapstructure:"enforce_roles"`
	} `mapstructure:"jicofo"`
	VHosts   map[string]rawVHost `mapstructure:"vhosts"`
	Sessions bool                `mapstructure:"sessions" default:"on"`
	Login    string              `mapstructure:"login" default:"password"`
	Store    struct {
		Path    string `mapstructure:"path"`
		MaxSize Size   `mapstructure:"max_size"`
	} `mapstructure:"store"`
	Log struct {
		Level  string `mapstructure:"level" default:"info"`
		Format string `mapstructure:"format" default:"console"`
	} `mapstructure:"log"`
}

type rawVHost struct {
	Kind               string `mapstructure:"kind"`
	AllowEmptyToken    bool   `mapstructure:"allow_empty_token"`
	DefaultAffiliation string `mapstructure:"default_affiliation" default:"owner"`
	// The short form of one issuer: its keys stand on the vhost.
	rawIssuer `mapstructure:",squash"`
	// The long form, by number: viper merges maps, not lists.
	Issuers map[int]rawListed `mapstructure:"issuers"`
}

// rawListed is an issuer in the list. On the vhost itself, the key of the vhost is that of the issuer.
type rawListed struct {
	rawIssuer          `mapstructure:",squash"`
	DefaultAffiliation string `mapstructure:"default_affiliation"`
}

type rawIssuer struct {
	AppID              string        `mapstructure:"app_id"`
	AppSecret          string        `mapstructure:"app_secret"`
	AppSecretFile      string        `mapstructure:"app_secret_file"`
	AppSecrets         []string      `mapstructure:"app_secrets"`
	AllowShortSecret   bool          `mapstructure:"allow_short_secret"`
	PublicKeyFiles     []string      `mapstructure:"public_key_files"`
	JWKSFile           string        `mapstructure:"jwks_file"`
	JWKSURL            string        `mapstructure:"jwks_url"`
	ASAPKeyServer      string        `mapstructure:"asap_key_server"`
	CacheKeysURL       string        `mapstructure:"cache_keys_url"`
	KeysMaxStale       time.Duration `mapstructure:"keys_max_stale" default:"24h"`
	AcceptedIssuers    []string      `mapstructure:"accepted_issuers"`
	AcceptedAudiences  []string      `mapstructure:"accepted_audiences" default:"*"`
	Algorithms         []string      `mapstructure:"algorithms"`
	RequireRoom        bool          `mapstructure:"require_room" default:"true"`
	RequireExp         bool          `mapstructure:"require_exp" default:"true"`
	DomainVerification bool          `mapstructure:"domain_verification" default:"true"`
	NoWildcard         bool          `mapstructure:"no_wildcard"`
	Leeway             time.Duration `mapstructure:"leeway" default:"10s"`
	Tenant             string        `mapstructure:"tenant"`
	Claims             rawClaims     `mapstructure:"claims"`
}

type rawClaims struct {
	Affiliation       string            `mapstructure:"affiliation"`
	AffiliationValues map[string]string `mapstructure:"affiliation_values"`
	ID                string            `mapstructure:"id"`
	IDValues          map[string]string `mapstructure:"id_values"`
	Name              string            `mapstructure:"name"`
	NameValues        map[string]string `mapstructure:"name_values"`
	Group             string            `mapstructure:"group"`
	GroupValues       map[string]string `mapstructure:"group_values"`
	Room              string            `mapstructure:"room"`
	RoomValues        map[string]string `mapstructure:"room_values"`
	Tenant            string            `mapstructure:"tenant"`
	TenantValues      map[string]string `mapstructure:"tenant_values"`
}

// shape says what may stand at a place of the configuration.
type shape struct {
	form  form
	keys  map[string]*shape // of a section: its keys
	order []string          // of a section: its keys, in the order of the table
	each  *shape            // of vhosts: a vhost; of a list of sections: one of them

	def string // of a value: its default as in the environment, "" for none
}

type form int

const (
	formSection  form = iota // keys
	formVHosts               // sections, by domain
	formSections             // a list of sections
	formTexts                // a list of texts
	formTable                // a table of texts by text
	formText
	formBool
	formDuration // a duration
	formSize     // a number of bytes
)

// table is the shape of the whole configuration, and issuerKeys are the keys of one issuer.
var (
	table      = shapeOf(reflect.TypeFor[raw]())
	issuerKeys = slices.Sorted(maps.Keys(shapeOf(reflect.TypeFor[rawIssuer]()).keys))
)

func shapeOf(t reflect.Type) *shape {
	switch t {
	case reflect.TypeFor[string]():
		return &shape{form: formText}
	case reflect.TypeFor[bool]():
		return &shape{form: formBool}
	case reflect.TypeFor[time.Duration]():
		return &shape{form: formDuration}
	case reflect.TypeFor[Size]():
		return &shape{form: formSize}
	case reflect.TypeFor[[]string]():
		return &shape{form: formTexts}
	case reflect.TypeFor[map[string]string]():
		return &shape{form: formTable}
	case reflect.TypeFor[map[string]rawVHost]():
		return &shape{form: formVHosts, each: shapeOf(t.Elem())}
	case reflect.TypeFor[map[int]rawListed]():
		return &shape{form: formSections, each: shapeOf(t.Elem())}
	}
	s := &shape{form: formSection, keys: map[string]*shape{}}
	for i := range t.NumField() {
		field := t.Field(i)
		name := field.Tag.Get("mapstructure")
		if name == ",squash" {
			squashed := shapeOf(field.Type)
			maps.Copy(s.keys, squashed.keys)
			s.order = append(s.order, squashed.order...)
			continue
		}
		key := shapeOf(field.Type)
		key.def = field.Tag.Get("default")
		s.keys[name] = key
		s.order = append(s.order, name)
	}
	return s
}

// parse turns text into the value of a key, or says what is wrong with it.
func (s *shape) parse(value string) (_ any, fault string) {
	switch s.form {
	case formBool:
		// on and off are booleans of YAML 1.1, which many an operator's habits and editors still follow.
		switch value {
		case "true", "on":
			return true, ""
		case "false", "off":
			return false, ""
		}
		return nil, "is neither true nor false"
	case formDuration:
		d, err := time.ParseDuration(value)
		if err != nil {
			return nil, "is no length of time: write it with its unit, such as 10s"
		}
		return d, ""
	case formSize:
		size, ok := parseSize(value)
		if !ok {
			return nil, "is no size: write a whole number and MiB or GiB, such as 512MiB"
		}
		return size, ""
	case formTexts:
		list := strings.Split(value, ",")
		for i := range list {
			list[i] = strings.TrimSpace(list[i])
		}
		return list, ""
	case formTable:
		entries := map[string]string{}
		for entry := range strings.SplitSeq(value, ",") {
			key, meaning, ok := strings.Cut(entry, "=")
			if !ok {
				return nil, "is no table: write it as value=meaning,value=meaning"
			}
			entries[strings.TrimSpace(key)] = strings.TrimSpace(meaning)
		}
		return entries, ""
	}
	return value, ""
}

// A path names a place of the configuration: the keys that lead there, joined by slashes. A slash is the one character
// that no domain contains (RFC 7622 §3.2): vhosts have dots in their names, and an IPv6 address has "::".

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "/" + key
}

// entryOf returns the path of an entry of the table at a path. It is no key, and nothing can be set there.
func entryOf(path, entry string) string {
	return join(path, strings.ReplaceAll(entry, "/", "∕"))
}

// parent returns the path of the section or list that a place stands in; that of the whole is "".
func parent(path string) string {
	return path[:max(strings.LastIndexByte(path, '/'), 0)]
}

// last returns the key that a path leads to, in the section or list that it stands in.
func last(path string) string {
	return path[strings.LastIndexByte(path, '/')+1:]
}

// typed returns a path as the operator thinks of it: vhosts.meet.example.com.issuers[0].app_id.
func typed(path string) string {
	var b strings.Builder
	for i, key := range strings.Split(path, "/") {
		switch {
		case i >= 2 && strings.Trim(key, "0123456789") == "": // i == 1 is a domain
			b.WriteString("[" + key + "]")
		case i > 0:
			b.WriteString("." + key)
		default:
			b.WriteString(key)
		}
	}
	return b.String()
}

// closest returns the one of the names that was probably meant, or "": one with a few typing mistakes, or one that is
// part of the other.
func closest(name string, names []string) string {
	most := min(3, max(1, len(name)/3)) // typing mistakes
	best, least := "", len(name)
	for _, candidate := range names {
		d := distance(name, candidate)
		if d < least && (d <= most || strings.Contains(name, candidate) || strings.Contains(candidate, name)) {
			best, least = candidate, d
		}
	}
	return best
}

// distance returns how many characters must be put in, left out or replaced to make a b (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			above := row[j+1]
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			row[j+1] = min(replaced, above+1, row[j]+1)
			diagonal = above
		}
	}
	return row[len(b)]
}
