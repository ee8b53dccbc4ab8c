package component

import "time"

// Patient has usher wait for rooms and Jicofo for as long as a test does.
func (c *Component) Patient() {
	c.requestTimeout = time.Hour
	if before, ok := c.mode.(*beforeJicofo); ok {
		before.relay.timeout = time.Hour
	}
}

// SlowPerVHost is how many slow requests of one virtual host may be under way.
const SlowPerVHost = slowPerVHost

// Met is what is remembered of the meeting in a room.
func (c *Component) Met(room string) meetingRecord {
	c.meetings.mu.Lock()
	defer c.meetings.mu.Unlock()
	if m := c.meetings.all[room]; m != nil {
		return m.meetingRecord
	}
	return meetingRecord{}
}
