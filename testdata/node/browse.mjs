// Drives Debian's Chromium for the tests: one command a line on standard input, one answer a line on standard output.
//
//   node browse.mjs '{"scheme": "dark", "width": 1280, "height": 900, "motion": "reduce", "locale": "de-DE", "noScript": true}'
//
//   {"do": "open", "url": …}
//   {"do": "see", "css": …, "text": …}      waits until an element has the text ("" for any), and answers with the element's text
//   {"do": "gone", "css": …}                waits until no such element is there to see
//   {"do": "count", "css": …}
//   {"do": "click", "css": …}, {"do": "fill", "css": …, "text": …}, {"do": "press", "key": …}, {"do": "select", "css": …, "text": …}
//   {"do": "run", "script": …}              a function body, run in the page as the developer tools would; answers with its value
//   {"do": "aria", "css": …}                answers with the accessibility tree below an element, as YAML
//   {"do": "size", "width": …, "height": …}, {"do": "media", "scheme": …}
//   {"do": "shot", "file": …}               a picture of what shows
//
// The answer is {"value": …} or {"error": …}. "do": "log" answers with what the page has complained about so far: errors of its script,
// and requests that its policy has refused. "do": "asked" answers with what the page has asked the person in dialogs.

import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';

const options = { scheme: 'light', width: 1280, height: 900, motion: 'no-preference', locale: 'en-GB', noScript: false, timeout: 60000, ...JSON.parse(process.argv[2] || '{}') };

const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'], // tests run as root, in containers, too
});
const context = await browser.newContext({
    viewport: { width: options.width, height: options.height },
    colorScheme: options.scheme, reducedMotion: options.motion, locale: options.locale, timezoneId: 'UTC',
    javaScriptEnabled: !options.noScript,
});
const page = await context.newPage();
page.setDefaultTimeout(options.timeout);
const log = [];
page.on('pageerror', error => log.push(`error: ${error.message}`));
page.on('console', message => {
    const text = message.text();
    // Chromium logs each request without a good answer; usher, or a room, may be gone on purpose.
    if (['error', 'warning'].includes(message.type()) && !/^Failed to load resource: (net::|.*status of (404|503))|net::ERR_/.test(text)) log.push(`${message.type()}: ${text}`);
});
page.on('request', request => {
    const url = new URL(request.url());
    if (!['127.0.0.1', ''].includes(url.hostname)) log.push(`asks another machine: ${url}`);
});

const asked = [];
page.on('dialog', dialog => { // the person says yes
    asked.push(dialog.message());
    dialog.accept();
});

const commands = {
    open: ({ url }) => page.goto(url).then(() => true),
    see: async ({ css, text }) => {
        const found = page.locator(css).filter({ hasText: text || '', visible: true }).first();
        await found.waitFor();
        return found.innerText();
    },
    gone: ({ css, text }) => page.locator(css).filter({ hasText: text || '', visible: true }).first().waitFor({ state: 'hidden' }).then(() => true),
    count: ({ css }) => page.locator(css).filter({ visible: true }).count(),
    click: ({ css }) => page.locator(css).first().click().then(() => true),
    fill: ({ css, text }) => page.locator(css).fill(text || '').then(() => true),
    select: ({ css, text }) => page.locator(css).selectOption(text || '').then(() => true),
    press: ({ key }) => page.keyboard.press(key).then(() => true),
    run: ({ script }) => page.evaluate(script),
    aria: ({ css }) => page.locator(css).ariaSnapshot(),
    size: ({ width, height }) => page.setViewportSize({ width, height }).then(() => true),
    media: ({ scheme }) => page.emulateMedia({ colorScheme: scheme }).then(() => true),
    shot: ({ file }) => page.screenshot({ path: file }).then(() => true),
    log: () => log,
    asked: () => asked,
};

for await (const line of createInterface({ input: process.stdin })) {
    let answer;
    try {
        const command = JSON.parse(line);
        answer = { value: await commands[command.do](command) };
    } catch (error) {
        answer = { error: error.message };
    }
    process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser.close();
