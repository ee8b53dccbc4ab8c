package page

import (
	"hash/maphash"
	"time"

	"github.com/xmpp-usher/usher/component"
)

const (
	MaxFollowers = maxFollowers
	Batch        = batch
	MaxPeople    = maxPeople
	Tick         = tick
)

// WriteWithin changes how long a write may take, before any page is made, and returns the function that changes it back.
func WriteWithin(d time.Duration) func() {
	before := writeWithin
	writeWithin = d
	return func() { writeWithin = before }
}

// Hash is what it costs to see whether a list of rooms has changed.
func Hash(list []component.RoomSummary) uint64 {
	c := roomsCache{seed: maphash.MakeSeed()}
	return c.hash(list)
}
