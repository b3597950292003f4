-- Single packets to 500 calls, each sequence once, as fast as the answers come: the load of scripts/measure.
local calls, sent = 500, 0
local run = tostring(os.time()) .. "-" .. tostring(math.random(1, 1e9))
local data = string.rep("Hello, I would like to change my booking. ", 3)

function request()
  local call, sequence = sent % calls, math.floor(sent / calls) + 1
  sent = sent + 1
  local body = '{"sequence":' .. sequence .. ',"data":"' .. data .. '","timestamp":1738411815.123}'
  return wrk.format("POST", "/v1/call/stream/measure-" .. run .. "-" .. call,
    { ["content-type"] = "application/json" }, body)
end

-- One line for the script: answers a second, those that were no 2xx, and latencies in milliseconds.
function done(summary, latency)
  local failed = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout
  io.write(string.format("measured %.0f %d %.2f %.2f %.2f\n", summary.requests / summary.duration * 1e6, failed,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000, latency.max / 1000))
end
