-- Stands in for Jitsi's features_identity; loaded on the main virtual host. Components announce their address through it.

module:hook("jitsi-add-identity", function (event)
	module:add_identity("component", event.name, event.host);
end);
