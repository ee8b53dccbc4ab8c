package component

import "mellium.im/xmpp/jid"

// Address returns the address of a room that an operator has named by its address, in either spelling of a tenant's rooms, or, if usher
// guards one MUC service, by its name. The room need not be open. The error is an ErrRoom. Any goroutine may call it.
func (c *Component) Address(room string) (jid.JID, error) { return c.guardedRoom(room) }
