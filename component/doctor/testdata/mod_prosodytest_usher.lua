-- Answers in the place of usher's module, which is loaded as well: "silent" not at all, or with this version and without telling anything.
local st = require "util.stanza";
local xmlns = "urn:usher:module:0";
local answer = module:get_option_string("prosodytest_usher");

module:hook("iq-get/host/"..xmlns..":listen", function (event)
	if answer ~= "silent" then
		event.origin.send(st.reply(event.stanza):tag("listening", { xmlns = xmlns, version = answer, boot = "prosodytest", n = "0" }));
	end
	return true;
end, 10);
