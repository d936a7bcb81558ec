import { openssl } from '../system/index.ts';

/** The oldest reason in OpenSSL's error queue of this thread, in words; empties the queue. */
export function opensslReason(): string {
  const ssl = openssl();
  const code = ssl.ERR_get_error();
  ssl.ERR_clear_error();
  return (code === 0 ? null : ssl.ERR_reason_error_string(code)) ?? 'no reason given';
}
