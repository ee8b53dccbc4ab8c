package muc

// Count returns how many rooms we are in, and how many grants are live there.
func (r *Rooms) Count() (rooms, grants int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rm := range r.rooms {
		grants += len(rm.live)
	}
	return len(r.rooms), grants
}
