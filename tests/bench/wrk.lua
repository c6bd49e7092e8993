-- Posts the bodies of a file, a line each, in turn; prints what came of it as a line of JSON.
-- wrk -s wrk.lua http://127.0.0.1:PORT/analysis -- FILE CONNECTIONS
--
-- Each connection waits before its first request, until all are open: uvloop accepts one connection each time around, so
-- that under load the last of 200 would be let in after a second, which wrk counts as many slow requests.

local OPENING_MS = 300

function init(args)
  requests = {}
  for line in io.lines(args[1]) do
    requests[#requests + 1] = wrk.format("POST", nil, { ["Content-Type"] = "application/json" }, line)
  end
  number = 0
  waiting = tonumber(args[2])
end

function delay()
  if waiting == 0 then
    return 0
  end
  waiting = waiting - 1
  return OPENING_MS
end

function request()
  number = number + 1
  return requests[number % #requests + 1]
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "seconds": %f, "bytes": %d, "p50_ms": %f, "p99_ms": %f, "max_ms": %f, ' ..
    '"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}\n',
    summary.requests, summary.duration / 1e6 - OPENING_MS / 1e3, summary.bytes, latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3, latency.max / 1e3, errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
