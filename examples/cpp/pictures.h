// Pictures for explain.cpp: a photo out of a binary PPM, scaled as Pillow scales it, and a map into a PGM or PFM.
#pragma once

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

/// What went wrong, in a sentence for the user.
struct Problem : std::runtime_error {
  using std::runtime_error::runtime_error;
};

using Bytes = std::vector<std::uint8_t>;

/// RGB, row by row.
struct Picture {
  int width = 0, height = 0;
  Bytes pixels;
};

inline Picture read_ppm(const std::string& path) {
  const std::string remedy =
      ": write the photo as binary PPM (P6, 8 bits), for example by Pillow's `save('photo.ppm')`.";
  std::ifstream file(path, std::ios::binary);
  Bytes bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (bytes.empty()) throw Problem("'" + path + "' cannot be read, or is empty" + remedy);
  if (bytes.size() < 3 || bytes[0] != 'P' || bytes[1] != '6') throw Problem("'" + path + "' is no binary PPM" + remedy);
  std::size_t place = 2;
  int header[3];  // width, height, largest value
  for (int& number : header) {
    while (place < bytes.size() && (std::isspace(bytes[place]) || bytes[place] == '#'))
      if (bytes[place++] == '#')
        while (place < bytes.size() && bytes[place] != '\n') place++;
    number = 0;
    for (; place < bytes.size() && std::isdigit(bytes[place]) && number < 100000; place++)
      number = number * 10 + (bytes[place] - '0');
    if (number < 1 || number > 65535 || place >= bytes.size() || !std::isspace(bytes[place]))
      throw Problem("'" + path + "' has a damaged header, or sides beyond 65535 pixels" + remedy);
  }
  place++;
  Picture picture{header[0], header[1], {}};
  const std::size_t count = std::size_t(3) * picture.width * picture.height;
  if (header[2] != 255) throw Problem("'" + path + "' has other than 8 bits" + remedy);
  if (bytes.size() - place < count) throw Problem("'" + path + "' is cut off" + remedy);
  picture.pixels.assign(bytes.begin() + place, bytes.begin() + place + count);
  return picture;
}

/// What a new pixel is made of: the first old pixel, and the weights from there on, in whole parts of 2^22.
struct Sum {
  int first;
  std::vector<std::int64_t> weights;
};

/// A bilinear filter, widened where the picture shrinks. Roundings are Pillow's, so that maps are those of cfcam.
inline std::vector<Sum> bilinear(int old_size, int new_size) {
  const double scale = double(old_size) / new_size, reach = std::max(1.0, scale);
  std::vector<Sum> sums;
  for (int i = 0; i < new_size; i++) {
    const double centre = (i + 0.5) * scale;
    const int first = std::max(0, int(centre - reach + 0.5)), end = std::min(old_size, int(centre + reach + 0.5));
    std::vector<double> raw;
    double total = 0;
    for (int k = first; k < end; k++) {
      raw.push_back(std::max(0.0, 1 - std::abs((k - centre + 0.5) * (1 / reach))));
      total += raw.back();
    }
    Sum sum{first, {}};
    for (double weight : raw) sum.weights.push_back(std::int64_t(weight * (1 / total) * (1 << 22) + 0.5));
    sums.push_back(sum);
  }
  return sums;
}

/// One pass of the filter: along rows, or, `down`, along columns.
inline Picture filtered(const Picture& old, const std::vector<Sum>& sums, bool down) {
  Picture picture{down ? old.width : int(sums.size()), down ? int(sums.size()) : old.height, {}};
  picture.pixels.reserve(std::size_t(3) * picture.width * picture.height);
  for (int y = 0; y < picture.height; y++)
    for (int x = 0; x < picture.width; x++)
      for (int channel = 0; channel < 3; channel++) {
        const Sum& sum = sums[down ? y : x];
        std::int64_t value = 1 << 21;  // one half, so that the shift rounds
        for (std::size_t k = 0; k < sum.weights.size(); k++) {
          const std::size_t row = down ? sum.first + k : y, column = down ? x : sum.first + k;
          value += sum.weights[k] * old.pixels[(row * old.width + column) * 3 + channel];
        }
        picture.pixels.push_back(std::uint8_t(std::clamp<std::int64_t>(value >> 22, 0, 255)));
      }
  return picture;
}

inline Picture stretched(const Picture& old, int width, int height) {
  const auto across = bilinear(old.width, width), down = bilinear(old.height, height);
  // the order is Pillow 13's: it goes down first where that shrinks the work
  if (old.height - height > 2 * std::max(0, old.width - width))
    return filtered(filtered(old, down, true), across, false);
  return filtered(filtered(old, across, false), down, true);
}

/// Writes values in [0, 1] as PGM, or as they are where the name ends in ".pfm"; first to a temporary name.
inline void write_map(const std::string& path, const float* values, int width, int height) {
  const bool unrounded = path.size() > 4 && path.compare(path.size() - 4, 4, ".pfm") == 0;
  const std::string temporary = path + ".part";
  {
    std::ofstream file(temporary, std::ios::binary);
    file << (unrounded ? "Pf\n" : "P5\n") << width << ' ' << height << (unrounded ? "\n-1.0\n" : "\n255\n");
    for (int y = 0; y < height; y++) {
      const float* row = values + std::size_t(width) * (unrounded ? height - 1 - y : y);  // PFM begins at the bottom
      if (unrounded)
        file.write(reinterpret_cast<const char*>(row), std::streamsize(sizeof(float)) * width);
      else
        for (int x = 0; x < width; x++) file.put(char(std::lround(255 * row[x])));
    }
    file.close();
    if (file && std::rename(temporary.c_str(), path.c_str()) == 0) return;
  }
  std::remove(temporary.c_str());
  throw Problem("'" + path + "' cannot be written: give a place in a folder that exists and has room.");
}
