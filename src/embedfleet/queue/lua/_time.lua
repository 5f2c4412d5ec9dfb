-- Fragment: time in seconds, and numbers as text that reads back as the same double.

-- The time that the caller gave (in tests and simulations), otherwise the server's time.
local function seconds_now(given)
  if given ~= '' then
    return tonumber(given)
  end
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1e6
end

local function exactly(number)
  return string.format('%.17g', number)
end
