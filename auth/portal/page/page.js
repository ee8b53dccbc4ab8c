// Helps on the pages of the portal; none of them needs it.
'use strict';

const byId = id => document.getElementById(id);

// The button beside the password shows it, and hides it again.
const show = byId('show');
if (show) {
	const password = byId('password');
	const set = shown => {
		password.type = shown ? 'text' : 'password';
		show.setAttribute('aria-pressed', shown);
	};
	show.hidden = false;
	show.addEventListener('click', () => set(password.type === 'password'));
	password.form.addEventListener('submit', () => set(false)); // else the browser would keep it as a text
}

// The wait page goes on by itself once a host is inside.
const wait = byId('wait');
if (wait) {
	const ready = is => {
		byId('waiting').hidden = is;
		byId('ready').hidden = byId('go').hidden = !is;
		document.title = wait.querySelector(is ? '#ready h1' : '#waiting h1').textContent;
		if (is) {
			location.replace(byId('enter').href);
		}
	};
	const follow = () => {
		const events = new EventSource(wait.dataset.events);
		events.onmessage = message => {
			if (message.data === 'ready') {
				events.close();
			}
			ready(message.data === 'ready');
		};
		events.onerror = () => {
			// The browser tries again by itself, but not after an answer with an error: the portal may be starting.
			if (events.readyState === EventSource.CLOSED) {
				setTimeout(follow, 5000 + Math.random() * 5000);
			}
		};
	};
	if ('ready' in wait.dataset) {
		ready(true);
	} else {
		follow();
	}
}

// In the list of rooms, links for guests are copied, who waits is kept up to date, and ending asks back.
const list = byId('list');
if (list) {
	const copying = () => {
		if (!navigator.clipboard) {
			return; // there is none without https
		}
		for (const link of list.querySelectorAll('a.guest')) {
			const button = document.createElement('button');
			button.type = 'button';
			button.className = 'guest';
			button.id = link.id;
			button.setAttribute('aria-labelledby', link.getAttribute('aria-labelledby'));
			button.textContent = list.dataset.copy;
			button.addEventListener('click', async () => {
				await navigator.clipboard.writeText(link.href);
				button.textContent = byId('said').textContent = list.dataset.copied; // seen, and read out
				setTimeout(() => {
					button.textContent = list.dataset.copy;
					byId('said').textContent = '';
				}, 3000);
			});
			link.replaceWith(button);
		}
	};
	copying();
	list.addEventListener('submit', event => {
		if (event.submitter?.classList.contains('danger') && !confirm(list.dataset.sure)) {
			event.preventDefault();
		}
	});

	// A long list gets a field to find a room.
	let find = null;
	const narrow = () => {
		for (const row of list.querySelectorAll('[data-room]')) {
			row.hidden = find !== null && !row.querySelector('h2').textContent.toLowerCase().includes(find.value.trim().toLowerCase());
		}
	};
	if (list.querySelectorAll('[data-room]').length > 10) {
		find = document.createElement('input');
		find.type = 'search';
		find.placeholder = list.dataset.find;
		find.setAttribute('aria-label', list.dataset.find);
		find.addEventListener('input', narrow);
		list.before(find);
	}

	// An open menu closes as menus do: by a click elsewhere, or Escape.
	const close = except => {
		for (const menu of list.querySelectorAll('details[open]')) {
			if (!menu.contains(except)) {
				menu.open = false;
				if (menu.contains(document.activeElement)) {
					menu.querySelector('summary').focus();
				}
			}
		}
	};
	document.addEventListener('click', event => close(event.target));
	document.addEventListener('keydown', event => event.key === 'Escape' && close(null));

	const renew = fresh => {
		const now = fresh.getElementById('list');
		if (!now) {
			location.assign('/rooms'); // the login is over
			return;
		}
		const said = fresh.getElementById('waiting').textContent;
		if (byId('waiting').textContent !== said) {
			byId('waiting').textContent = said; // read out
		}
		if (!list.contains(document.activeElement) && !list.querySelector('[open]')) {
			list.replaceChildren(...now.childNodes);
			copying();
			narrow();
			return;
		}
		// Somebody is at work in the list: nothing moves below their hands.
		for (const row of list.querySelectorAll('[data-room]')) {
			const state = now.querySelector(`[data-room="${CSS.escape(row.dataset.room)}"] .state`);
			if (state) {
				row.querySelector('.state').replaceWith(state);
			}
		}
	};
	// XMLHttpRequest makes a document without running anything in it; the policy of the page lets no script make HTML from text.
	const look = () => {
		if (document.hidden) {
			return;
		}
		const request = new XMLHttpRequest();
		request.open('GET', '/rooms');
		request.responseType = 'document';
		request.onload = () => request.status === 200 && request.response && renew(request.response);
		request.send();
	};
	setInterval(look, 10000);
	document.addEventListener('visibilitychange', look);
}
