package component

import (
	"time"
)

// Status is a snapshot of what a Component does. It belongs to the caller.
type Status struct {
	// Connected says whether there is a connection, and Since since when it is so; zero before the first one.
	Connected bool
	Since     time.Time
	// Server is the server's software and version (XEP-0092); empty unless known. Address is where usher connects to, Domain as what.
	Server, Address, Domain string
	// Reconnects is how often usher has connected again. The others count what has come and gone in all connections.
	Reconnects, StanzasIn, StanzasOut, BytesIn, BytesOut int64
	// Queued is how many requests wait in the queue, UnderWay how many are being decided, and Slow how many of those have been for
	// long. Held is how many wait for a host without an answer, Waiting how many people do, with and without one.
	Queued, UnderWay, Slow, Held, Waiting int
	// Rooms, Grants, Hosts and Occupants are how many there are: open rooms, live rights in them, hosts inside, and people inside in all.
	Rooms, Grants, Hosts, Occupants int
	// Behind is "jicofo" where usher stands in front of one, otherwise empty. Jicofo says of it "online", "offline" or "silent" (it is
	// online, and has left the last question without an answer).
	Behind, Jicofo string
}

// Status returns what this usher does now. It asks nobody. Any goroutine may call it.
func (c *Component) Status() Status {
	return Status{Connected: c.stream.Load() != nil, Address: c.o.Server, Domain: c.o.Domain.String()}
}
