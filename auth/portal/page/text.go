package page

// Text is something that a page says. Its words are in the catalogs: a title, a text, and for notices with a link the words of the link.
type Text string

// What the pages say. All of them fit a [Notice]; on the pages for logging in and of rooms they stand above the form.
const (
	// LoggedOut says that the person has logged out.
	LoggedOut Text = "logged-out"
	// LogOut asks whether the person wants to log out: another site has led them here.
	LogOut Text = "log-out"
	// LoginOver says that a login has ended, or took too long at the provider: log in again.
	LoginOver Text = "login-over"
	// NoRoom says that the person has logged in, and may open no room at all.
	NoRoom Text = "no-room"
	// NotYours says that the person has logged in, and may not open this room.
	NotYours Text = "not-yours"
	// BadRoom says that this is no name of a room.
	BadRoom Text = "bad-room"
	// Taken says that the portal's own pages hide a room of this name.
	Taken Text = "taken"
	// NotOpen says that the room is not open, so there is nothing to lock or to end.
	NotOpen Text = "not-open"
	// Locked, Unlocked and Ended say what has been done.
	Locked   Text = "locked"
	Unlocked Text = "unlocked"
	Ended    Text = "ended"
	// Refused says that the provider has not let the person in.
	Refused Text = "refused"
	// Unavailable says that the provider, or the service that knows the accounts, does not answer.
	Unavailable Text = "unavailable"
	// Later says that the portal cannot do this at the moment: it stands by, or has too much to do.
	Later Text = "later"
	// TooMany says that there were too many attempts.
	TooMany Text = "too-many"
	// Elsewhere says that a form was sent from a page of another site.
	Elsewhere Text = "elsewhere"
	// BadLink says that an address is incomplete, or leads nowhere.
	BadLink Text = "bad-link"
)

// texts are all of them.
var texts = []Text{
	LoggedOut, LogOut, LoginOver, NoRoom, NotYours, BadRoom, Taken, NotOpen, Locked, Unlocked, Ended, Refused, Unavailable, Later, TooMany, Elsewhere,
	BadLink,
}

// Good reports whether a text says that something was done.
func (t Text) Good() bool {
	switch t {
	case LoggedOut, Locked, Unlocked, Ended:
		return true
	}
	return false
}
