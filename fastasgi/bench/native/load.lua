-- wrk's side of a run: the request as `scenarios.py` wrote it, byte for byte, and the result as one line of JSON.
-- Usage: wrk ... -s load.lua URL -- FILE, where FILE holds the whole request (headers and body).

function init(args)
   local file = assert(io.open(args[1], "rb"))
   local request = file:read("*a")
   file:close()
   -- wrk calls this once and sends its result again and again: no Lua in the loop, no second place that
   -- knows the headers.
   wrk.format = function() return request end
end

function done(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      '{"requests": %d, "duration_us": %d, "bytes": %d, "connect_errors": %d, "read_errors": %d, ' ..
      '"write_errors": %d, "status_errors": %d, "timeouts": %d, "mean_us": %.1f, "p50_us": %d, ' ..
      '"p90_us": %d, "p99_us": %d, "p999_us": %d, "max_us": %d}\n',
      summary.requests, summary.duration, summary.bytes, errors.connect, errors.read, errors.write,
      errors.status, errors.timeout, latency.mean, latency:percentile(50), latency:percentile(90),
      latency:percentile(99), latency:percentile(99.9), latency.max))
end
