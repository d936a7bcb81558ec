// RFC 9110 section 15, RFC 6585: what proxies answer a CONNECT with. Not node:http's table: importing that costs each thread 5 MB.
const TEXTS: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'Not Found',
  405: 'Method Not Allowed',
  407: 'Proxy Authentication Required',
  408: 'Request Timeout',
  421: 'Misdirected Request',
  425: 'Too Early',
  426: 'Upgrade Required',
  429: 'Too Many Requests',
  431: 'Request Header Fields Too Large',
  500: 'Internal Server Error',
  501: 'Not Implemented',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
  504: 'Gateway Timeout',
};

/** `401 Unauthorized`; the number alone where it is no status of theirs. */
export function statusText(status: number): string {
  const text = TEXTS[status];
  return text === undefined ? String(status) : `${status} ${text}`;
}
