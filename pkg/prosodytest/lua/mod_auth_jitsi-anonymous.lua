-- Stands in for Jitsi's provider jitsi-anonymous, under its name. Everybody is let in. A token counts on resumption only,
-- where the provider token verifies it; see there.

module:depends("prosodytest_session");

module:provides("auth", module:require("prosodytest_anonymous")(function (session, resumed)
	if not resumed then
		session.auth_token = nil;
	end
	return true;
end));
