// Asks to enter a room over WebSocket as a Jitsi client does, and says what happens, one JSON object a line.
//
//   node join.mjs '{"service": "ws://127.0.0.1:5280/xmpp-websocket", "domain": "meet.example.com",
//                   "room": "standup@conference.meet.example.com", "focus": "focus.meet.example.com"}'
//
// Also understood: token, sessionId, machineUid, nick, retryMs (how long to wait before asking again, default 5000).
//
//   {"event": "online", "jid": …}
//   {"event": "conference", "ready": true, "sessionId": …, "identity": …, "focusjid": …, "properties": {…}}
//   {"event": "conference", "condition": "not-authorized", "text": …, "reason": …, "reservationError": "403"}
//   {"event": "joined", "nick": …, "affiliation": "member", "role": "participant"}    and again when they change
//   {"event": "join-error", "condition": …, "text": …}
//   {"event": "left", "statuses": ["307"]}                                            not because we left
//   {"event": "disconnected"}
//
// It stays until standard input ends, then leaves. It ends by itself, with status 1, where a Jitsi client gives up: after
// a refusal, or without a connection.

import { $iq, $pres, Strophe } from 'strophe.js'; // as lib-jitsi-meet

const FOCUS = 'http://jitsi.org/protocol/focus';
const MUC = 'http://jabber.org/protocol/muc';
const STANZAS = 'urn:ietf:params:xml:ns:xmpp-stanzas';
const USHER = 'urn:usher:0';

const options = {
    machineUid: '0123456789abcdef0123456789abcdef',
    retryMs: 5000,
    ...JSON.parse(process.argv[2]),
};
let { sessionId } = options;
let leaving = false;

const say = (event, details) => process.stdout.write(`${JSON.stringify({ event, ...details })}\n`);

const connection = new Strophe.Connection(options.service);

connection.connect(options.domain, null, status => {
    switch (status) {
    case Strophe.Status.CONNECTED:
        say('online', { jid: connection.jid });
        connection.addHandler(onRoomPresence, null, 'presence', null, null, options.room, { matchBareFromJid: true });
        ask();
        break;
    case Strophe.Status.CONNFAIL:
    case Strophe.Status.AUTHFAIL:
    case Strophe.Status.DISCONNECTED:
        say('disconnected');
        process.exit(leaving ? 0 : 1);
    }
});

process.stdin.on('end', () => leave()).resume();

function leave() {
    leaving = true;
    connection.send($pres({ type: 'unavailable' }));
    connection.disconnect();
}

// lib-jitsi-meet modules/xmpp/moderator.js, _createConferenceIq
function ask() {
    if (leaving) {
        return;
    }
    const conference = { xmlns: FOCUS, room: options.room, 'machine-uid': options.machineUid };

    if (sessionId) {
        conference['session-id'] = sessionId;
    }
    if (options.token) {
        conference.token = options.token;
    }
    const iq = $iq({ to: options.focus, type: 'set' })
        .c('conference', conference)
        .c('property', { name: 'rtcstatsEnabled', value: 'false' }).up();

    connection.sendIQ(iq, onAllowed, onRefused);
}

// lib-jitsi-meet modules/xmpp/moderator.js, _handleIqSuccess
function onAllowed(iq) {
    const conference = child(iq, 'conference', FOCUS);
    const ready = conference.getAttribute('ready') === 'true';

    sessionId = conference.getAttribute('session-id') ?? sessionId;
    say('conference', {
        ready,
        sessionId: conference.getAttribute('session-id') ?? undefined,
        identity: conference.getAttribute('identity') ?? undefined,
        focusjid: conference.getAttribute('focusjid') ?? undefined,
        properties: Object.fromEntries(children(conference)
            .filter(c => c.localName === 'property')
            .map(c => [ c.getAttribute('name'), c.getAttribute('value') ])),
    });
    if (ready) {
        join();
    } else {
        setTimeout(ask, options.retryMs);
    }
}

// lib-jitsi-meet modules/xmpp/moderator.js, _handleIqError. A request without an answer ends here, too, as null.
function onRefused(iq) {
    const error = iq && child(iq, 'error');
    const condition = errorCondition(error);

    say('conference', {
        condition,
        text: error && child(error, 'text', STANZAS)?.textContent,
        reason: error && child(error, 'reason', USHER)?.getAttribute('code'),
        reservationError: error && child(error, 'reservation-error', FOCUS)?.getAttribute('error-code'),
    });
    switch (condition) {
    case 'not-acceptable': // the session is no longer good
        sessionId = undefined;
        setTimeout(ask, options.retryMs);
        break;
    case 'not-authorized': // waiting for the host
        setTimeout(ask, options.retryMs);
        break;
    default:
        process.exitCode = 1;
        connection.disconnect();
    }
}

// The nick is the first eight characters of an anonymous JID (lib-jitsi-meet JitsiConference.js, resourceCreator).
function join() {
    const nick = options.nick ?? connection.jid.slice(0, 8);

    connection.send($pres({ to: `${options.room}/${nick}` }).c('x', { xmlns: MUC }));
}

function onRoomPresence(presence) {
    const nick = Strophe.getResourceFromJid(presence.getAttribute('from'));
    const type = presence.getAttribute('type');

    if (type === 'error') {
        const error = child(presence, 'error');

        say('join-error', { condition: errorCondition(error), text: child(error, 'text', STANZAS)?.textContent });

        return true;
    }
    const x = child(presence, 'x', `${MUC}#user`);
    const item = x && child(x, 'item');
    const statuses = x ? children(x).filter(c => c.localName === 'status').map(c => c.getAttribute('code')) : [];

    if (!statuses.includes('110')) { // XEP-0045 §15.6.2: one's own
        return true;
    }
    if (type === 'unavailable') {
        if (!leaving) {
            say('left', { statuses: statuses.filter(s => s !== '110') });
        }
    } else {
        say('joined', { nick, affiliation: item?.getAttribute('affiliation'), role: item?.getAttribute('role') });
    }

    return true;
}

function errorCondition(error) {
    return error ? children(error).find(c => c.namespaceURI === STANZAS && c.localName !== 'text')?.localName : 'timeout';
}

function child(element, name, namespace) {
    return children(element).find(c => c.localName === name && (!namespace || c.namespaceURI === namespace));
}

function children(element) {
    return Array.from(element.childNodes).filter(c => c.nodeType === 1);
}
