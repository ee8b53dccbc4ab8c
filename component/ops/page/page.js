
'use strict';
// The script of usher's live page. Names of rooms and people are written by strangers: they become text, never HTML.
(() => {
	const $ = id => document.getElementById(id);
	const PAGE = 50;      // rooms on one page of the list
	const ROWS = 50;      // decisions in the list
	const SILENCE = 15e3; // after which usher is taken for gone: it says something every 5 s

	// --- Elements ---

	// el makes an element. What comes after the attributes are its children: elements and texts.
	function el(tag, attributes = {}, ...children) {
		const e = document.createElement(tag);
		for (const [name, value] of Object.entries(attributes)) {
			if (value !== undefined && value !== false) e.setAttribute(name, value === true ? '' : value);
		}
		e.append(...children.filter(c => c !== undefined && c !== null && c !== ''));
		return e;
	}
	// say sets the text of an element if it differs, so that screen readers hear changes only.
	function say(e, text) {
		if (e.textContent !== text) e.textContent = text;
	}
	// theirs is a text that somebody else wrote. Its direction stays its own.
	const theirs = text => el('bdi', {}, String(text));
	// prose is a sentence of usher's, with what is between backticks as code.
	const prose = text => text.split('`').map((part, n) => n % 2 ? el('code', {}, part) : part);
	const plural = (n, one, many = `${one}s`) => `${n.toLocaleString('en')} ${n === 1 ? one : many}`;

	// --- Time ---

	let skew = 0; // of usher's clock against ours, in milliseconds
	const now = () => Date.now() + skew;
	const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });
	const day = new Intl.DateTimeFormat(undefined, { month: 'short', day: 'numeric' });
	const full = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'long' });

	function at(iso) {
		const t = new Date(iso);
		const today = new Date(now()).toDateString() === t.toDateString();
		return el('time', { datetime: iso, title: full.format(t) }, today ? clock.format(t) : `${day.format(t)} ${clock.format(t)}`);
	}
	function span(ms) {
		const s = Math.max(0, Math.floor(ms / 1000));
		if (s < 60) return `${s} s`;
		if (s < 3600) return `${Math.floor(s / 60)} min`;
		if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor(s % 3600 / 60)} min`;
		return `${Math.floor(s / 86400)} d ${Math.floor(s % 86400 / 3600)} h`;
	}
	// since is a time that says how long ago it was; it grows with the clock.
	function since(iso) {
		if (!iso) return '';
		const e = el('time', { datetime: iso, 'data-since': Date.parse(iso), title: full.format(new Date(iso)) });
		e.textContent = span(now() - Date.parse(iso));
		return e;
	}
	setInterval(() => {
		for (const e of document.querySelectorAll('time[data-since]')) say(e, span(now() - Number(e.dataset.since)));
		if (document.body.dataset.level === 'gone') sayGone();
	}, 1000);

	// --- Announcements ---

	// announce tells a screen reader, in its own time. The same is not repeated, and what comes too fast replaces what was to be said.
	const announcer = { next: '', timer: 0, last: 0 };
	function announce(text) {
		announcer.next = text;
		if (announcer.timer) return;
		announcer.timer = setTimeout(() => {
			announcer.timer = 0;
			announcer.last = Date.now();
			say($('announcer'), announcer.next);
		}, Math.max(0, announcer.last + 5e3 - Date.now()));
	}

	// --- Asking ---

	async function ask(path, parameters) {
		const answer = await fetch(`page/${path}?${new URLSearchParams(parameters)}`, { signal: AbortSignal.timeout(10e3) });
		if (!answer.ok) {
			const error = new Error((await answer.text()).trim());
			error.status = answer.status;
			throw error;
		}
		return answer.json();
	}
	// latest runs a task so that it never runs twice at once; what is wanted meanwhile happens once afterwards.
	function latest(task) {
		let running = false, again = false;
		return async () => {
			again = true;
			if (running) return;
			running = true;
			try {
				while (again) {
					again = false;
					await task();
				}
			} catch {
				// usher is gone, which the stream notices
			} finally {
				running = false;
			}
		};
	}
	function later(task, ms) {
		let timer;
		return () => { clearTimeout(timer); timer = setTimeout(task, ms); };
	}

	// --- The head ---

	const LEVELS = {
		well: ['✓', '#17734a'], standby: ['‖', '#2b5f9e'], trouble: ['!', '#b3261e'], gone: ['✕', '#b3261e'], connecting: ['…', '#556272'],
	};
	let level = '', waiting = 0;

	function show(to, headline) {
		say($('headline'), headline);
		const [sign, colour] = LEVELS[to];
		say(document.querySelector('title'), `${sign} ${to === 'well' ? 'usher' : `${headline} – usher`}`);
		document.body.dataset.level = to;
		if (level !== to) {
			$('icon').href = 'data:image/svg+xml,' + encodeURIComponent(
				`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><circle cx="16" cy="16" r="15" fill="${colour}"/>` +
				`<text x="16" y="23" text-anchor="middle" font-family="sans-serif" font-weight="bold" font-size="20" fill="white">${sign}</text></svg>`);
		}
	}

	function showState(s) {
		skew = Date.parse(s.now) - Date.now();
		show(s.level, s.headline);
		if (level !== s.level) announce(s.headline);
		level = s.level;
		say($('domain'), s.domain || '');
		say($('version'), s.version ? `usher ${s.version}.` : '');
		const line = [];
		if (s.level === 'standby') line.push('This one takes over when the other is gone.');
		else if (s.connected) line.push(`Connected to ${s.server}`, s.since ? [' for ', since(s.since)] : '');
		else line.push(`Not connected to ${s.server || 'the server'}`, s.since ? [' for ', since(s.since)] : '');
		if (s.reconnects) line.push(`; connected again ${plural(s.reconnects, 'time')}`);
		$('subline').replaceChildren(...line.flat());
		showChecks(s);
		showNow(s);
		if (s.roomsVersion !== roomsVersion) refreshRooms();
	}

	function showChecks(s) {
		const tiles = s.checks.map(c => [c.ok ? 'good' : 'bad', c.name, c.says || (c.ok ? 'works' : 'does not work')]);
		if (s.level !== 'standby') {
			tiles.push([s.slow ? 'warn' : 'plain', 'requests', `${s.queued} in the queue, ${s.held} held for a host${s.slow ? `, ${s.slow} slow` : ''}`]);
		}
		const list = $('checks');
		while (list.children.length > tiles.length) list.lastChild.remove();
		tiles.forEach(([kind, name, text], n) => {
			const tile = list.children[n] || list.appendChild(
				el('li', {}, el('span', { class: 'mark', 'aria-hidden': 'true' }), el('strong'), el('span', { class: 'unseen' }), el('span', { class: 'text' })));
			tile.className = `tile ${kind}`;
			const [mark, title, spoken, words] = tile.children;
			say(mark, { good: '✓', bad: '✕', warn: '!', plain: '·' }[kind]);
			say(title, name[0].toUpperCase() + name.slice(1));
			say(spoken, { good: ', well: ', bad: ', not well: ', warn: ', look at this: ', plain: ': ' }[kind]);
			say(words, text);
		});
	}

	function showNow(s) {
		const tile = $('count-waiting'), known = s.level !== 'standby';
		say(tile.querySelector('.count'), known ? s.waiting.toLocaleString('en') : '–');
		tile.classList.toggle('some', s.waiting > 0);
		if (s.waiting && !waiting) announce(`${plural(s.waiting, 'person waits', 'people wait')} for a host.`);
		if (known && !s.waiting && waiting) announce('Nobody waits any more.');
		waiting = s.waiting;
		say($('count-inside').querySelector('.count'), known ? s.occupants.toLocaleString('en') : '–');
		say($('inside-note'), known ? `${plural(s.hosts, 'host')} in ${plural(s.rooms, 'open room')}` : 'The active usher knows.');
	}

	// --- The hour ---

	function showRates(r) {
		const sum = counts => counts.reduce((a, b) => a + b, 0);
		say($('count-admitted').querySelector('.count'), sum(r.admitted).toLocaleString('en'));
		say($('count-refused').querySelector('.count'), sum(r.refused).toLocaleString('en'));
		spark('count-admitted', r.admitted, 'People let in');
		spark('count-refused', r.refused, 'Refusals');
		spark('count-waiting', r.waited, 'People told to wait');
	}
	function spark(id, counts, what) {
		const svg = $(id).querySelector('svg');
		const top = Math.max(1, ...counts), width = 120, height = 28;
		const points = counts.map((n, i) => `${(i * width / (counts.length - 1)).toFixed(1)} ${(height - 1 - n / top * (height - 3)).toFixed(1)}`);
		svg.querySelector('.line').setAttribute('d', `M${points.join('L')}`);
		svg.querySelector('.area').setAttribute('d', `M0 ${height}L${points.join('L')}L${width} ${height}Z`);
		const total = counts.reduce((a, b) => a + b, 0);
		svg.setAttribute('aria-label', `${what} in the last hour: ${total}. At most ${Math.max(...counts)} a minute, ${counts.at(-1)} in this one.`);
	}

	// --- Rows that open ---

	// List is the body of a table with rows that open. One row is open at a time.
	class List {
		constructor(table, look) {
			this.body = table.tBodies[0];
			this.look = look; // fills the opened part: async (key, box)
			this.rows = new Map();
			this.open = null;
			this.ids = 0;
			table.addEventListener('click', e => {
				const tr = e.target.closest('tr.row');
				const button = e.target.closest('button');
				if (!tr || !button && String(getSelection())) return; // somebody selects a text to copy it
				this.toggle(tr.dataset.key);
				if (!button) tr.querySelector('.opener').focus({ preventScroll: true });
			});
			table.addEventListener('keydown', e => {
				if (e.key !== 'Escape' || !this.open) return;
				const opener = this.rows.get(this.open).tr.querySelector('.opener');
				this.toggle(this.open);
				opener.focus();
			});
		}
		// whole is a cell as wide as the table, which shows fewer columns in a narrow window.
		whole(...content) {
			const columns = [...this.body.parentElement.tHead.rows[0].cells].filter(c => getComputedStyle(c).display !== 'none').length;
			return el('td', { class: 'whole', colspan: columns }, ...content);
		}
		fit() {
			for (const cell of this.body.querySelectorAll(':scope > tr > .whole')) cell.colSpan = this.whole().colSpan;
		}
		// row makes the row of a key: its first cell has the button that opens it.
		row(key, heading, label, ...cells) {
			const tr = el('tr', { class: 'row' }, el(heading ? 'th' : 'td', { scope: heading ? 'row' : undefined },
				el('button', { type: 'button', class: 'opener', 'aria-expanded': 'false' }, label)), ...cells);
			tr.dataset.key = key;
			this.rows.set(key, { tr, detail: null });
			return tr;
		}
		toggle(key) {
			const was = this.open;
			this.close();
			if (was === key) return;
			const row = this.rows.get(key);
			const id = `${this.body.parentElement.id}-open-${++this.ids}`;
			const box = this.whole(el('p', { class: 'note' }, 'One moment.'));
			row.detail = el('tr', { class: 'detail', id }, box);
			row.tr.after(row.detail);
			row.tr.classList.add('open');
			const opener = row.tr.querySelector('.opener');
			opener.setAttribute('aria-expanded', 'true');
			opener.setAttribute('aria-controls', id);
			this.open = key;
			this.refresh();
		}
		close() {
			const row = this.rows.get(this.open);
			this.open = null;
			if (!row) return;
			row.detail.remove();
			row.detail = null;
			row.tr.classList.remove('open');
			const opener = row.tr.querySelector('.opener');
			opener.setAttribute('aria-expanded', 'false');
			opener.removeAttribute('aria-controls');
		}
		// refresh fills the open row anew.
		async refresh() {
			const key = this.open;
			if (!key) return;
			let content;
			try {
				content = await this.look(key);
			} catch (error) {
				if (!error.status) return; // usher is gone, which the stream notices
				content = [el('p', {}, error.message)];
			}
			if (this.open === key) this.rows.get(key).detail.firstChild.replaceChildren(...content);
		}
		// drop forgets a row.
		drop(key) {
			const row = this.rows.get(key);
			if (this.open === key) this.close();
			row.tr.remove();
			this.rows.delete(key);
		}
		// order puts the rows of the keys in this order, and drops all others. The focus stays where it is.
		order(keys, title) {
			const focused = document.activeElement, inside = this.body.contains(focused);
			const wanted = new Set(keys);
			for (const key of [...this.rows.keys()]) if (!wanted.has(key)) this.drop(key);
			let next = this.body.firstChild;
			for (const key of keys) {
				for (const tr of [this.rows.get(key).tr, this.rows.get(key).detail]) {
					if (!tr) continue;
					if (tr === next) next = next.nextSibling;
					else this.body.insertBefore(tr, next);
				}
			}
			while (next) {
				const rest = next;
				next = next.nextSibling;
				rest.remove();
			}
			if (inside && document.activeElement !== focused) (this.body.contains(focused) ? focused : title).focus({ preventScroll: true });
		}
	}

	const facts = pairs => el('dl', {}, ...pairs.filter(([, v]) => v !== undefined && v !== null && v !== '').flatMap(
		([k, v]) => [el('dt', {}, k), el('dd', {}, v)]));
	const heads = names => el('thead', {}, el('tr', {}, ...names.map(n => el('th', { scope: 'col' }, n))));

	// --- Rooms ---

	let roomsVersion = -1, from = 0, searched = '';
	const rooms = new List($('rooms'), lookIntoRoom);

	const refreshRooms = latest(async () => {
		const filter = $('rooms-filter').value;
		const answer = await ask('rooms', { q: filter, from, n: PAGE });
		if (answer.from >= answer.matching && from > 0) { // the list has become shorter
			from = Math.max(0, Math.floor((answer.matching - 1) / PAGE) * PAGE);
			return refreshRooms();
		}
		roomsVersion = answer.version;
		for (const r of answer.rooms) showRoom(r);
		rooms.order(answer.rooms.map(r => r.room), $('rooms-title'));
		rooms.refresh();
		showRoomsCount(answer, filter);
	});

	function showRoomsCount(answer, filter) {
		// Spoken only when somebody has searched: the number changes all the time.
		const count = $('rooms-count');
		count.setAttribute('aria-live', filter === searched ? 'off' : 'polite');
		searched = filter;
		say(count, filter ? `${answer.matching.toLocaleString('en')} of ${plural(answer.total, 'room')}` : answer.total ? plural(answer.total, 'room') : '');
		$('rooms-none').hidden = answer.matching > 0;
		say($('rooms-none'), answer.total ? 'No room fits the filter.' : level === 'standby' ? 'The active usher knows the rooms.' : 'No room is open, and nobody waits.');
		$('rooms-pages').hidden = answer.matching <= PAGE;
		say($('rooms-range'), `${answer.from + 1}–${answer.from + answer.rooms.length} of ${answer.matching.toLocaleString('en')}`);
		$('rooms-before').disabled = answer.from === 0;
		$('rooms-after').disabled = answer.from + PAGE >= answer.matching;
	}

	function showRoom(r) {
		const known = rooms.rows.get(r.room);
		const number = kind => el('td', { class: `number ${kind}` });
		const tr = known ? known.tr : rooms.row(r.room, true,
			el('span', {}, r.tenant && el('span', { class: 'tenant' }, theirs(r.tenant), ' / '), theirs(r.name || r.room)),
			number(''), number('wide'), number('wide'), number('slim'), number(''), number('wide'));
		const [name, hosts, members, guests, inside, waits, age] = tr.children;
		const chips = [r.locked && 'locked', !r.open && 'not open'].filter(Boolean);
		if (name.dataset.chips !== String(chips)) {
			name.dataset.chips = String(chips);
			for (const old of name.querySelectorAll('.chip')) old.remove();
			for (const chip of chips) name.append(' ', el('span', { class: 'chip' }, chip));
		}
		for (const [cell, n] of [[hosts, r.hosts], [members, r.members], [guests, r.guests], [inside, r.hosts + r.members + r.guests]]) {
			say(cell, String(n));
			cell.classList.toggle('zero', n === 0);
		}
		waits.classList.toggle('zero', r.waiting === 0);
		if (waits.textContent !== String(r.waiting)) {
			waits.replaceChildren(r.waiting ? el('span', { class: 'chip some' }, String(r.waiting)) : '0');
		}
		if (age.firstChild?.getAttribute?.('datetime') !== r.since) age.replaceChildren(since(r.since));
	}

	async function lookIntoRoom(address) {
		const v = await ask('room', { address });
		const content = [facts([
			['Address', theirs(v.room)],
			['Rule', theirs(v.rule)],
			['Ends', v.ends && at(v.ends)],
		])];
		if (v.waits.length) {
			content.push(el('h3', {}, `Waiting: ${v.waits.length}`), el('table', { class: 'people' }, heads(['Who', 'For', 'Why']),
				el('tbody', {}, ...v.waits.map(w => el('tr', {}, el('td', {}, theirs(w.who)), el('td', {}, since(w.since)), el('td', {}, w.reason || ''))))));
		}
		if (v.occupants.length) {
			content.push(el('h3', {}, `People: ${v.occupants.length}`), el('table', { class: 'people' }, heads(['Who', 'As', 'For']),
				el('tbody', {}, ...v.occupants.map(o => el('tr', {}, el('td', {}, theirs(o.user ? `${o.user} (${o.who})` : o.who)),
					el('td', {}, o.as, o.inside ? '' : ', on the way'), el('td', {}, since(o.since)))))));
		}
		if (v.more) content.push(el('p', { class: 'note' }, `${plural(v.more, 'person is', 'people are')} not shown.`));
		return content;
	}

	$('rooms-filter').addEventListener('input', later(() => { from = 0; refreshRooms(); }, 150));
	for (const [id, step] of [['rooms-before', -PAGE], ['rooms-after', PAGE]]) {
		$(id).addEventListener('click', () => {
			from = Math.max(0, from + step);
			refreshRooms();
		});
	}

	// --- Decisions ---

	const WORDS = {
		allow: ['✓ let in', 'allow'], wait: ['… waits', 'wait'], deny: ['✕ refused', 'deny'],
		'host-arrived': ['host inside', 'event'], 'host-left': ['last host left', 'event'], 'room-opened': ['room opened', 'event'],
		'room-ended': ['room ended', 'event'], expired: ['put out: right ended', 'event'], revoked: ['put out', 'event'],
	};
	const decisions = new List($('decisions'), explain);
	let last = '';   // id of the newest entry that usher has told us
	let held = [];   // entries that came while the list stands still
	let heldMissed = 0;
	let paused = false;

	const loadDecisions = latest(async () => {
		const answer = await ask('decisions', { show: $('decisions-show').value, q: $('decisions-filter').value, n: ROWS });
		if (!last) last = answer.newest;
		held = [];
		heldMissed = 0;
		for (const gap of decisions.body.querySelectorAll('.missed')) gap.remove();
		for (const e of answer.entries) if (!decisions.rows.has(e.id)) decisionRow(e);
		decisions.order(answer.entries.map(e => e.id), $('decisions-title'));
		showDecisionsEnd();
	});

	function decisionRow(e) {
		const [word, kind] = WORDS[e.verdict || e.what] || [e.what, 'event'];
		const where = e.name || e.room || '';
		const person = () => e.user || e.who ? [theirs(e.user || e.who)] : [];
		const room = () => [e.tenant && el('span', { class: 'tenant' }, theirs(e.tenant), ' / '), theirs(where)].filter(Boolean);
		return decisions.row(e.id, false, el('span', {}, at(e.at), el('span', { class: 'unseen' }, ', explain')),
			el('td', {}, el('span', { class: `verdict ${kind}` }, word), ' ', el('span', { class: 'reason' }, e.reason || ''),
				e.again ? el('span', { class: 'reason' }, ', again') : '',
				el('span', { class: 'narrow' }, ...person()), el('span', { class: 'narrow note' }, ...room())),
			el('td', { class: 'wide' }, ...person()),
			el('td', { class: 'wide' }, ...room()));
	}

	// matches is the search that usher does for the entries which it has: views.go, isOf and searched.
	function matches(e) {
		const kind = $('decisions-show').value, text = $('decisions-filter').value.trim().toLowerCase();
		const fits = !kind || (kind === 'decisions' ? e.what === 'decided' : kind === 'events' ? e.what !== 'decided' : e.verdict === kind);
		return fits && (!text || [e.room, e.name, e.tenant, e.who, e.user, e.reason, e.what, e.text].join(' ').toLowerCase().includes(text));
	}

	function addEntries({ entries, missed = 0 }) {
		heldMissed += missed;
		held.push(...entries.filter(matches));
		if (held.length > ROWS) {
			heldMissed += held.length - ROWS;
			held = held.slice(-ROWS);
		}
		if (paused || decisions.open) showHeld();
		else release(true);
	}
	function showHeld() {
		const n = held.length + heldMissed;
		$('newer').hidden = n === 0;
		say($('newer'), `Show ${n.toLocaleString('en')} newer`);
	}
	// release puts the entries that were held on top of the list.
	function release(fresh) {
		const body = decisions.body;
		if (heldMissed) {
			const first = body.firstChild;
			const before = first?.classList.contains('missed') ? Number(first.dataset.missed) : 0;
			if (before) first.remove();
			const gap = el('tr', { class: 'missed' }, decisions.whole(
				`${plural(before + heldMissed, 'entry', 'entries')} came too fast to be shown here.`));
			gap.dataset.missed = before + heldMissed;
			body.prepend(gap);
		}
		for (const e of held) {
			if (decisions.rows.has(e.id)) continue;
			const tr = decisionRow(e);
			if (fresh) tr.classList.add('new');
			body.prepend(tr);
		}
		held = [];
		heldMissed = 0;
		while (decisions.rows.size > ROWS) {
			const end = body.lastChild;
			if (end.dataset.key) decisions.drop(end.dataset.key);
			else end.remove(); // what is missing there, or what is open there
		}
		showHeld();
		showDecisionsEnd();
	}
	function showDecisionsEnd() {
		const none = decisions.rows.size === 0;
		$('decisions-none').hidden = !none;
		say($('decisions-none'), $('decisions-show').value || $('decisions-filter').value ? 'Nothing fits the filter.' : 'Nothing has happened yet.');
		showHeld();
	}

	async function explain(id) {
		const x = await ask('explanation', { of: id });
		const ms = n => n && (n < 1000 ? `${n.toLocaleString('en', { maximumFractionDigits: 1 })} ms` : `${(n / 1000).toLocaleString('en', { maximumFractionDigits: 1 })} s`);
		const content = [
			x.doc && el('p', { class: 'doc' }, ...prose(x.doc)),
			x.do && x.do !== 'Nothing.' && el('p', {}, ...prose(x.do)),
			facts([
				['Person', x.who && theirs(x.who)], ['User', x.user && theirs(x.user)], ['Room', x.room && theirs(x.room)],
				['Virtual host', x.vhost && theirs(x.vhost)], ['Issuer', x.issuer && theirs(x.issuer)], ['Token id', x.jti && theirs(x.jti)],
				['Affiliation', x.affiliation], ['Answer took', ms(x.took)], ['After the host came', ms(x.waited)], ['Text', x.text && theirs(x.text)],
			]),
		].filter(Boolean);
		if (x.steps.length) content.push(el('h3', {}, 'Rule by rule'), steps(x.steps));
		else if (x.verdict) content.push(el('p', { class: 'note' }, 'No rule was asked: the request was answered before.'));
		return content;
	}
	function steps(all) {
		return el('table', {}, heads(['Rule', 'Expected', 'Found']), el('tbody', {}, ...all.map(s => {
			const [kind, mark, word] = s.note ? ['note', '!', 'note: '] : s.ok ? ['good', '✓', 'met: '] : ['bad', '✕', 'not met: '];
			return el('tr', { class: `step ${kind}` },
				el('th', { scope: 'row' }, el('span', { class: 'mark', 'aria-hidden': 'true' }, mark), el('span', { class: 'unseen' }, word), theirs(s.rule)),
				el('td', {}, theirs(s.expected)), el('td', {}, theirs(s.found)));
		})));
	}

	$('pause').addEventListener('click', () => {
		paused = !paused;
		$('pause').setAttribute('aria-pressed', paused);
		if (!paused) release();
	});
	$('newer').addEventListener('click', () => {
		decisions.close();
		release();
		$('decisions-title').focus({ preventScroll: true });
	});
	$('decisions-show').addEventListener('change', loadDecisions);
	$('decisions-filter').addEventListener('input', later(loadDecisions, 150));

	matchMedia('(max-width: 720px)').addEventListener('change', () => { rooms.fit(); decisions.fit(); });

	// --- The stream ---

	let stream = null, heard = 0, pause = 500, crowded = false;

	async function connect() {
		if (stream) return;
		try {
			if (!last) {
				await loadDecisions();
				if (!last) throw new Error('no answer');
			}
		} catch {
			return lost();
		}
		stream = new EventSource(`page/events?${new URLSearchParams({ after: last })}`);
		const on = (kind, task) => stream.addEventListener(kind, e => {
			heard = Date.now();
			pause = 500;
			crowded = false;
			if (e.lastEventId) last = e.lastEventId;
			task(JSON.parse(e.data));
		});
		on('state', showState);
		on('rates', showRates);
		on('entries', addEntries);
		stream.onerror = lost;
	}
	// lost tries again after a while. A browser would do so, too, but neither after every error nor visibly.
	function lost() {
		stream?.close();
		stream = null;
		roomsVersion = -1;
		sayGone();
		if (level !== 'gone') announce($('headline').textContent);
		level = 'gone';
		fetch('page/decisions?n=0', { signal: AbortSignal.timeout(3e3) }).then(a => { crowded = a.ok; }, () => { crowded = false; });
		setTimeout(connect, pause * (0.75 + Math.random() / 2));
		pause = Math.min(pause * 2, 5e3);
	}
	function sayGone() {
		show('gone', crowded ? 'Too many pages are open' : 'usher does not answer');
		const ago = heard ? `Last heard ${span(Date.now() - heard)} ago. Everything below is from then. ` : '';
		say($('subline'), crowded ? 'Close one of them. This page tries again.' : `${ago}This page tries again.`);
	}
	setInterval(() => {
		if (stream && Date.now() - heard > SILENCE) lost();
	}, 1000);
	addEventListener('pagehide', () => stream?.close());
	addEventListener('pageshow', e => { if (e.persisted) lost(); });

	connect();
})();
