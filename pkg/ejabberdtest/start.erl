%% Starts ejabberd, tells the test when it is ready, and shuts it down in good order when the test asks for it or has ended. These are
%% expressions for the node to evaluate (erl -eval). They write one line to file descriptor 3, see prosodytest.Program. The end of
%% standard input ends the node.

{ok, Ports} = file:consult("ports.term").
{ok, Users} = file:consult("users.term").

%% ejabberd halts the node without a word if a port is taken (ejabberd_app.erl).
IsTaken = fun(Port) ->
	case gen_tcp:listen(Port, [{ip, {127, 0, 0, 1}}, {reuseaddr, true}]) of
		{ok, Socket} -> gen_tcp:close(Socket), false;
		{error, _} -> true
	end
end.
Start = fun() ->
	{ok, _} = ejabberd:start(),
	lists:foreach(fun({User, Host, Password}) -> ejabberd_auth:try_register(User, Host, Password) end, Users),
	["ready ", ejabberd_option:version()]
end.
Ready = open_port({fd, 3, 3}, [out]).
port_command(Ready, [case lists:filter(IsTaken, Ports) of [] -> Start(); [Taken | _] -> ["taken ", integer_to_binary(Taken)] end, "\n"]).
port_close(Ready).
spawn(fun() ->
	Input = open_port({fd, 0, 0}, [in, eof]),
	receive {Input, eof} -> init:stop() end
end).
