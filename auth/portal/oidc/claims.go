package oidc

import (
	"cmp"
	"errors"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/portal/account"
	"github.com/xmpp-usher/usher/pkg/strictjson"
	"github.com/xmpp-usher/usher/pkg/token"
)

const (
	// anybody is the value of a rule for all users of a provider.
	anybody = "*"
	// maxName caps the names of a person, in characters: they become part of a token.
	maxName = 128
	// maxAddress caps the addresses of a person, in bytes.
	maxAddress = 512
)

// paths are the paths of the claims that count, each split into names. A path that cannot be read leads nowhere.
type paths struct {
	id, name, display []string
	rules             [][]string // in the order of the rules; nil for a rule that needs no claim
}

func pathsOf(config Provider) paths {
	split := func(path string) []string {
		names, err := token.SplitPath(path)
		if err != nil {
			return []string{path} // no claim has this name: token.NewClaim says what is wrong with it
		}
		return names
	}
	p := paths{id: split(config.IDClaim), name: split(config.NameClaim), display: split(config.DisplayClaim)}
	for _, rule := range config.Rules {
		var path []string
		if rule.Value != anybody {
			path = split(cmp.Or(rule.Claim, "groups"))
		}
		p.rules = append(p.rules, path)
	}
	return p
}

// person is what a provider says of somebody: the claims of the ID token, and those of the userinfo endpoint if it was asked. The first
// that has a claim counts.
type person []strictjson.Object

// get returns the value at a path.
func (p person) get(path []string) (any, bool) {
	for _, claims := range p {
		object := claims
		for _, name := range path[:len(path)-1] {
			object = object.Child(name)
		}
		if value, present := object.Get(path[len(path)-1]); present && value != nil {
			return value, true
		}
	}
	return nil, false
}

// id returns the text or number at a path: whole, because persons are not the same if their ids only look alike. It is empty if there is
// none, and for an email address of which the provider says that it may be somebody else's.
func (p person) id(path []string) string {
	value, _ := p.get(path)
	id, _ := value.(string)
	if number, isNumber := value.(strictjson.Number); isNumber {
		id = string(number)
	}
	if len(id) > maxSubject || strings.ContainsFunc(id, func(r rune) bool { return !unicode.IsPrint(r) }) || path[0] == "email" && !p.verified() {
		return ""
	}
	return id
}

// verified reports whether the email address is the person's, as far as the provider says anything.
func (p person) verified() bool {
	verified, says := p.get([]string{"email_verified"})
	return !says || verified == true || verified == "true" // some providers write it as a text
}

// text returns the text at a path, in one line without what does not print; "" if there is none.
func (p person) text(path []string) string {
	value, _ := p.get(path)
	text, _ := value.(string)
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, text)
	runes := []rune(strings.TrimSpace(text))
	return strings.TrimSpace(string(runes[:min(len(runes), maxName)]))
}

// has reports whether the claim at a path is this text, or a list with it.
func (p person) has(path []string, want string) bool {
	value, _ := p.get(path)
	list, isList := value.([]any)
	if !isList {
		list = []any{value}
	}
	want = strings.TrimPrefix(want, "/")
	return want != "" && slices.ContainsFunc(list, func(element any) bool {
		text, isText := element.(string)
		return isText && strings.TrimPrefix(text, "/") == want // Keycloak's mapper of groups puts their paths: /teachers
	})
}

// complete reports whether no claim that counts is missing.
func (p paths) complete(claims person) bool {
	all := append([][]string{p.id, p.name, p.display}, p.rules...)
	return !slices.ContainsFunc(all, func(path []string) bool {
		_, present := claims.get(path)
		return path != nil && !present
	})
}

var (
	errNothing = errors.New("compare the person's claims with the provider's rules")
	errID      = errors.New("the person has no usable claim for the id: compare id_claim with the provider's claims")
)

// person returns who somebody is and what they may do. The error is ErrNoRoom or ErrRefused.
func (p *provider) person(claims person) (account.Person, error) {
	id := claims.id(p.paths.id)
	if id == "" {
		return account.Person{}, p.fail(ErrRefused, errID)
	}
	who := account.Person{ID: p.Name + ":" + id, Email: claims.email(), Avatar: claims.avatar()}
	who.Name = cmp.Or(claims.text(p.paths.name), who.Email, id)
	who.Display = cmp.Or(claims.text(p.paths.display), who.Name)
	for i, rule := range p.Rules {
		if path := p.paths.rules[i]; path == nil || claims.has(path, rule.Value) {
			apply(&who, rule)
		}
	}
	if len(who.Rooms) == 0 {
		return who, p.fail(ErrNoRoom, errNothing)
	}
	return who, nil
}

// apply gives a person what a rule gives.
func apply(who *account.Person, rule Rule) {
	for _, pattern := range rule.Rooms {
		if rule.Tenant != "" && !strings.HasPrefix(pattern, "[") {
			pattern = "[" + rule.Tenant + "]" + pattern
		}
		who.Rooms = addTo(who.Rooms, pattern)
	}
	ranks := []auth.Affiliation{auth.None, auth.Member, auth.Admin, auth.Owner}
	if given := cmp.Or(rule.Affiliation, auth.Member); slices.Index(ranks, given) > slices.Index(ranks, who.Affiliation) {
		who.Affiliation = given
	}
	if rule.Value != anybody {
		who.Groups = addTo(who.Groups, rule.Value)
	}
	for _, feature := range rule.Features {
		if who.Features == nil {
			who.Features = make(map[string]bool)
		}
		who.Features[feature] = true
	}
}

func addTo(list []string, text string) []string {
	if slices.Contains(list, text) {
		return list
	}
	return append(list, text)
}

// email returns the email address, unless the provider says that it is not the person's.
func (p person) email() string {
	text := p.text([]string{"email"})
	if !strings.Contains(text, "@") || !p.verified() {
		return ""
	}
	return text
}

// avatar returns the address of the person's picture, if browsers may fetch it from everywhere.
func (p person) avatar() string {
	value, _ := p.get([]string{"picture"})
	text, _ := value.(string)
	if u, err := url.Parse(text); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || len(text) > maxAddress {
		return ""
	}
	return text
}
