import { STATUS_CODES } from 'node:http';
import { describe, expect, it } from 'vitest';
import { statusText } from '../../src/ztunnel/status-text.ts';

describe('statusText', () => {
  it('RFC 9110 section 15: says what node:http says, for what proxies answer', () => {
    for (const status of [400, 401, 403, 404, 405, 407, 408, 421, 425, 426, 429, 431, 500, 501, 502, 503, 504]) {
      expect(statusText(status)).toBe(`${status} ${STATUS_CODES[status]}`);
    }
  });

  it('is the number alone for any other', () => {
    expect(statusText(418)).toBe('418');
    expect(statusText(799)).toBe('799');
  });
});
